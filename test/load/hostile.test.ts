import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask } from "../support/raw-http.ts";
import { hostile } from "./attacks.ts";
import { askSteadily, milliseconds } from "./clients.ts";
import { credentialsPath, givenProxy, noisy, quiet } from "./fixture.ts";
import { type Kind, kinds } from "./hostile.ts";
import { residentMegabytes } from "./process.ts";

t.setTimeout(900_000);

const seconds = 4;

const attacks: readonly { readonly kind: Kind; readonly connections: number; readonly addresses?: number }[] =
  [
    ...(Object.keys(kinds) as Kind[]).map((kind) => ({ kind, connections: 64 })), // the keys of an object that is a constant here
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
  const what = `${kind} on ${connections} connections${strangers ? ` from ${addresses} addresses of nobody` : ""}`;
  t.test(`a hostile container does not starve another: ${what}`, { timeout: 60_000 }, async (t) => {
    await using given = await givenProxy();
    const { port } = given;
    const lines = await given.tokenLines(quiet);
    await ask({ port, from: quiet.address }, "GET", credentialsPath, lines);
    const before = await given.memoryCollected();
    const from = strangers ? "127.0.8.1" : noisy.address;
    const attacking = hostile({ kind, port, from, addresses, connections, seconds });
    await sleep(700);
    const at = { port, from: quiet.address };
    const seen = await askSteadily(at, credentialsPath, lines, 20, (seconds - 1) * 1_000);
    const most = await residentMegabytes(given.proxy.configPath);
    const done = await attacking;
    // An address that is not read from is not seen to have gone, for ten seconds at most.
    let after = await given.memoryCollected();
    for (let tries = 0; tries < 8 && after.inUse >= before.inUse + 15; tries++) {
      await sleep(1_000);
      after = await given.memoryCollected();
    }
    t.comment(
      `measured beside ${what} (${done}): ${seen.asked} requests, ${seen.failed.length} failed, p50 ${milliseconds(seen.p50)}, p99 ${milliseconds(seen.p99)}, worst ${milliseconds(seen.worst)}; memory ${before.resident} MB, meanwhile ${most}, after it ${after.resident} (in use ${before.inUse} and ${after.inUse})`,
    );
    t.same(seen.failed, [], "each was answered 200, on a kept connection and on new ones");
    t.ok(seen.worst < 5_000, "in time; how much, is above: a busy machine is slow without any attack");
    // Garbage of ten thousand connections a second is a lot; what is held must be little, and go.
    t.ok(most < before.resident + 250, `memory went from ${before.resident} to ${most} MB`);
    t.ok(after.inUse < before.inUse + 15, `in use were ${before.inUse} and then ${after.inUse} MB`);
    t.notMatch(given.proxy.log(), /EMFILE|this is a bug|unhandled/i);
  });
}
