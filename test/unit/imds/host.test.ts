import t from "tap";
import { ask } from "../../support/raw-http.ts";
import { listPath, proxyFixture, web } from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";

t.test(
  "the Host header must name the metadata service or the address that the request was sent to",
  async (t) => {
    const proxy = await proxyFixture(t);
    const token = await proxy.token(web);
    const status = async (host: string, to?: string) =>
      (
        await ask({ port: proxy.port, ...(to !== undefined && { to }) }, "GET", `${listPath}Web`, [
          `Host: ${host}`,
          `${tokenHeader}: ${token}`,
        ])
      ).status;
    for (const host of [
      "169.254.169.254",
      "169.254.169.254:80",
      "[fd00:ec2::254]",
      "[fd00:ec2::254]:80",
      "[FD00:EC2:0::254]",
      "instance-data",
      "instance-data.ec2.internal",
      "127.0.0.1",
      `127.0.0.1:${proxy.port}`,
    ])
      await t.test(`${host} is served`, async (t) => t.equal(await status(host), 200));
    for (const host of [
      "evil.example",
      "evil.example:80",
      "169.254.169.254.evil.example",
      "localhost",
      "127.0.0.9",
      "2852039166",
      "0xa9.254.169.254",
      "169.254.169.254@evil.example",
      "169.254.169.254,evil.example",
      "[::1]",
      "",
    ])
      await t.test(`"${host}" gets 403`, async (t) => t.equal(await status(host), 403));
    t.equal(
      await status("127.0.0.77", "127.0.0.77"),
      200,
      "another address of the host, if it was asked there",
    );
  },
);
