import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import t from "tap";
import { leaksHostSecret } from "../../../support/aws/account.ts";
import { parseAddress } from "../../../support/aws/listen.ts";
import { ask, read } from "./ask.ts";

const program = new URL("../../../support/aws/main.ts", import.meta.url).pathname;

t.test("the program prints its addresses, obeys its control address, and ends on SIGTERM", async (t) => {
  const child = spawn(process.execPath, [program, "--imds6", "[::1]:0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  const [line] = await once(createInterface(child.stdout), "line");
  const ready: { imds: readonly [string, string]; sts: string; control: string } = JSON.parse(line);
  const control = async (method: string, path: string, body?: unknown) => {
    const answer = await fetch(`${ready.control}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.status, value: JSON.parse(await answer.text()) };
  };
  for (const url of ready.imds) t.equal((await read(url, "/latest/meta-data/instance-id")).status, 200, url);
  t.match((await control("GET", "/requests")).value, [{ method: "PUT", url: "/latest/api/token" }]);
  t.ok(
    (await control("GET", "/secrets")).value.every(({ secretAccessKey }: { secretAccessKey: string }) =>
      leaksHostSecret(secretAccessKey),
    ),
  );

  const arn = "arn:aws:iam::123456789012:role/web";
  const set = await control("PUT", "/faults", {
    imds: { status: 503 },
    sts: { throttle: true },
    roles: { [arn]: { hang: true } },
  });
  t.match(set, { status: 200, value: { imds: { status: 503 }, sts: { throttle: true } } });
  t.equal((await ask(ready.imds[0], "/")).status, 503);
  t.match(await (await fetch(ready.sts, { method: "POST" })).text(), /<Code>Throttling</);
  t.match((await control("GET", "/calls")).value, [{ outcome: "Throttling" }]);
  t.match((await control("GET", "/counts")).value, { sts: { inFlight: 0, maxInFlight: 1, total: 1 } });

  const wrong = await control("PUT", "/faults", { imds: { status: 0 }, sts: { throtle: true } });
  t.match(wrong, { status: 400, value: { error: /no fault named throtle/ } });
  t.match((await control("GET", "/faults")).value, { imds: { status: 503 } }, "an error changes nothing");
  t.match(await control("GET", "/nothing"), {
    status: 400,
    value: { error: "unknown control: GET /nothing" },
  });

  await control("POST", "/reset");
  t.match((await control("POST", "/rotate", { expiresInSeconds: 60 })).value, {
    kind: "host",
    accessKeyId: /^ASIA/,
  });
  t.match((await control("POST", "/user", { name: "ops" })).value, {
    arn: "arn:aws:iam::123456789012:user/ops",
  });
  t.equal((await control("POST", "/invalidate-tokens")).status, 200);
  t.same((await control("GET", "/requests")).value, []);

  child.kill("SIGTERM");
  const [code] = await once(child, "exit");
  t.equal(code, 0);
});

t.test("an address is an IP address with a port", async (t) => {
  t.same(parseAddress("169.254.169.254:80"), { host: "169.254.169.254", port: 80 });
  t.same(parseAddress("[fd00:ec2::254]:80"), { host: "fd00:ec2::254", port: 80 });
});

for (const text of ["", ":80", "127.0.0.1", "fd00:ec2::254:80", "host:80"])
  t.test(`"${text}" is not an address`, async (t) => {
    t.throws(() => parseAddress(text), /expected/);
  });
