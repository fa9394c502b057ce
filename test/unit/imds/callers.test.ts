import t from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { ask, wire } from "../../support/raw-http.ts";
import { db, listPath, proxyFixture, web } from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";

t.test("a role that a reload takes away is refused at once, on open connections too", async (t) => {
  const proxy = await proxyFixture(t);
  const token = await proxy.token(web);
  using kept = wire(proxy.port);
  const text = `GET ${listPath}Web HTTP/1.1\r\nHost: 169.254.169.254\r\n${tokenHeader}: ${token}\r\n\r\n`;
  kept.write(text);
  t.equal((await kept.answer())?.status, 200);
  proxy.callers.replace(rolePolicy(configSchema.parse({})), undefined);
  kept.write(text);
  t.equal((await kept.answer())?.status, 404);
});

t.test("a container that exceeds its rate gets 429, and the others are served", async (t) => {
  const proxy = await proxyFixture(t, { config: { limits: { requestsPerSecond: 20 } } });
  const token = await proxy.token(web);
  const others = await proxy.token(db);
  const statuses: number[] = [];
  for (let round = 0; round < 40; round++)
    statuses.push((await ask({ port: proxy.port }, "GET", listPath, [`${tokenHeader}: ${token}`])).status);
  t.ok(statuses.filter((status) => status === 200).length >= 19, "its share");
  t.ok(statuses.includes(429), "and no more");
  t.equal(proxy.refusals.find(({ status }) => status === 429)?.code, "too-many-requests");
  t.equal(
    (await ask({ port: proxy.port, from: db.address }, "GET", listPath, [`${tokenHeader}: ${others}`]))
      .status,
    200,
  );
  proxy.pass(1_000);
  t.equal(
    (await ask({ port: proxy.port }, "GET", listPath, [`${tokenHeader}: ${token}`])).status,
    200,
    "a second later",
  );
});
