import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { wire } from "../support/raw-http.ts";
import { milliseconds, requestSteadily } from "./clients.ts";
import { credentialsPath, noisy, quiet, startProxyUnderLoad } from "./fixture.ts";

t.setTimeout(120_000);

const halves = [
  "",
  "G",
  "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254",
  "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 9\r\n",
];

for (const [what, config] of [
  ["with the default limits", {}],
  ["with a limit that admits all of them", { limits: { connections: 4_000 } }],
] as const)
  t.test(
    `2,000 half-requests from one container do not slow another, ${what}`,
    { timeout: 60_000 },
    async (t) => {
      await using setup = await startProxyUnderLoad(config);
      const { port } = setup;
      const lines = await setup.tokenLines(quiet);
      const before = await requestSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, 2_000);
      t.same(before.failed, []);

      const idle = Array.from({ length: 2_000 }, () => wire(port, noisy.address));
      // Connect before measuring: the cost of connecting is this process's.
      await sleep(2_000);
      for (const [nth, one] of idle.entries()) one.write(halves[nth % halves.length] ?? "");
      // A byte now and then, as in the attack.
      const trickle = setInterval(() => {
        for (const one of idle) if (one.socket.writable) one.write("x");
      }, 1_000);
      const during = await requestSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, 5_000);
      clearInterval(trickle);
      t.comment(
        `measured ${what}: ${during.requests} requests beside 2,000 half-requests: p50 ${milliseconds(during.p50)}, p99 ${milliseconds(during.p99)}, worst ${milliseconds(during.worst)} (alone: p99 ${milliseconds(before.p99)})`,
      );
      t.same(during.failed, [], "every answer was 200");
      // The figures are in the comment above: a busy machine is slow without any attack.
      t.ok(during.worst < 5_000, "every answer was in time");
      const givenUp = () => idle.every(({ socket }) => socket.destroyed || socket.readableEnded);
      for (const deadline = Date.now() + 20_000; !givenUp() && Date.now() < deadline; ) await sleep(100);
      t.ok(givenUp(), "the half-requests have been given up");
      for (const one of idle) one.socket.destroy();
    },
  );
