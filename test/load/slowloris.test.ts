import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { wire } from "../support/raw-http.ts";
import { askSteadily, milliseconds } from "./clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "./fixture.ts";

t.setTimeout(120_000);

const halves = [
  "",
  "G",
  "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254",
  "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 9\r\n",
];

for (const [what, config] of [
  ["with the limits as shipped", {}],
  ["with a limit that lets all of them in", { limits: { connections: 4_000 } }],
] as const)
  t.test(
    `2,000 half-requests of one container do not slow another, ${what}`,
    { timeout: 60_000 },
    async (t) => {
      await using given = await givenProxy(config);
      const { port } = given;
      const lines = await given.tokenLines(quiet);
      const before = await askSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, 2_000);
      t.same(before.failed, []);

      const idle = Array.from({ length: 2_000 }, () => wire(port, noisy.address));
      // They are there before the clock runs: what making them costs this process is no matter of the proxy's.
      await sleep(2_000);
      for (const [nth, one] of idle.entries()) one.write(halves[nth % halves.length] ?? "");
      // A byte now and then, as the attack has it.
      const trickle = setInterval(() => {
        for (const one of idle) if (one.socket.writable) one.write("x");
      }, 1_000);
      const during = await askSteadily({ port, from: quiet.address }, credentialsPath, lines, 20, 5_000);
      clearInterval(trickle);
      t.comment(
        `measured ${what}: ${during.asked} requests beside 2,000 half-requests: p50 ${milliseconds(during.p50)}, p99 ${milliseconds(during.p99)}, worst ${milliseconds(during.worst)} (alone: p99 ${milliseconds(before.p99)})`,
      );
      t.same(during.failed, [], "each was answered 200");
      t.ok(during.worst < 5_000, "in time; how much, is above: a busy machine is slow without any attack");
      const givenUp = () => idle.every(({ socket }) => socket.destroyed || socket.readableEnded);
      for (const deadline = Date.now() + 20_000; !givenUp() && Date.now() < deadline; ) await sleep(100);
      t.ok(givenUp(), "and the half-requests have been given up");
      for (const one of idle) one.socket.destroy();
    },
  );
