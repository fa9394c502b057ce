import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask } from "../support/raw-http.ts";
import { hostile } from "./attacks.ts";
import { milliseconds, requestSteadily } from "./clients.ts";
import { credentialsPath, noisy, quiet, startProxyUnderLoad } from "./fixture.ts";
import { type Kind, kinds } from "./hostile.ts";
import { residentMegabytes } from "./resident-memory.ts";

t.setTimeout(900_000);

const seconds = 4;

const attacks: readonly { readonly kind: Kind; readonly connections: number; readonly addresses?: number }[] =
  [
    ...(Object.keys(kinds) as Kind[]).map((kind) => ({ kind, connections: 64 })), // the keys of a constant object
    { kind: "bodies in chunks of one byte", connections: 512 },
    { kind: "plain bodies", connections: 512 },
    { kind: "headers", connections: 512 },
    { kind: "half a request", connections: 2_000 },
    { kind: "connecting again and again", connections: 512 },
    { kind: "nothing said", connections: 4_000, addresses: 200 },
    { kind: "bodies in chunks of one byte", connections: 1_000, addresses: 200 },
    { kind: "connecting again and again", connections: 400, addresses: 200 },
  ];

for (const { kind, connections, addresses = 1 } of attacks) {
  const strangers = addresses > 1;
  const what = `${kind} on ${connections} connections${strangers ? ` from ${addresses} unknown addresses` : ""}`;
  t.test(`a hostile container does not starve another: ${what}`, { timeout: 60_000 }, async (t) => {
    await using setup = await startProxyUnderLoad();
    const { port } = setup;
    const lines = await setup.tokenLines(quiet);
    await ask({ port, from: quiet.address }, "GET", credentialsPath, lines);
    const before = await setup.memoryCollected();
    const from = strangers ? "127.0.8.1" : noisy.address;
    const attacking = hostile({ kind, port, from, addresses, connections, seconds });
    await sleep(700);
    const at = { port, from: quiet.address };
    const seen = await requestSteadily(at, credentialsPath, lines, 20, (seconds - 1) * 1_000);
    const most = await residentMegabytes(setup.proxy.configPath);
    const report = await attacking;
    // While the proxy does not read from an address, it does not notice that the client has gone, for ten
    // seconds at most.
    let after = await setup.memoryCollected();
    for (let tries = 0; tries < 8 && after.inUse >= before.inUse + 15; tries++) {
      await sleep(1_000);
      after = await setup.memoryCollected();
    }
    t.comment(
      `measured beside ${what} (${report}): ${seen.requests} requests, ${seen.failed.length} failed, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}; memory ${before.resident} MB, meanwhile ${most}, after it ${after.resident} (in use ${before.inUse} and ${after.inUse})`,
    );
    t.same(seen.failed, [], "every answer was 200, on a kept connection and on new ones");
    // The figures are in the comment above: a busy machine is slow without any attack.
    t.ok(seen.worst < 5_000, "every answer was in time");
    // Ten thousand connections a second leave much garbage. The memory in use must be small, and be released.
    t.ok(most < before.resident + 250, `memory went from ${before.resident} to ${most} MB`);
    t.ok(
      after.inUse < before.inUse + 15,
      `memory in use: ${before.inUse} MB before, ${after.inUse} MB after`,
    );
    t.notMatch(setup.proxy.log(), /EMFILE|this is a bug|unhandled/i);
  });
}
