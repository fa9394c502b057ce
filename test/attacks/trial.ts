import { leaksHostSecret } from "../support/aws/account.ts";
import type { Column } from "./layers.ts";
import { type Entry, succeeds } from "./matrix.ts";
import type { Findings, Order, Reading } from "./order.ts";
import type { Scene } from "./scene.ts";

/** One attack against a set of layers, and its result. */
export type Trial = {
  readonly entry: Entry;
  readonly expected: boolean;
  readonly succeeded: boolean;
  /** Everything that the attack got of the victim's or the host's, including a token or a role name alone. */
  readonly loot: readonly string[];
  readonly findings: Findings;
  /** What the victim got meanwhile, in attacks that overhear it. */
  readonly reading: Reading | undefined;
};

/** Enough for the slowest attack that succeeds: it waits until conntrack has forgotten a connection. */
const successTimeoutSeconds = 25;

/** How many answers the victim gets while somebody tries to overhear it, and how long it tries. */
export const answersServed = 200;
const whole = { answers: answersServed, seconds: 40 };
/** Until it was overheard. */
const open = { answers: 10_000, seconds: successTimeoutSeconds };
const enough = 5;

/** @param seconds how long an attack that should fail goes on */
export async function attempt(scene: Scene, entry: Entry, column: Column, seconds: number): Promise<Trial> {
  const { bridgeNf } = entry;
  await scene.host.exec(
    `sysctl -q -w net.bridge.bridge-nf-call-iptables=${bridgeNf} net.bridge.bridge-nf-call-ip6tables=${bridgeNf}`,
  );
  const expected = succeeds(entry, column);
  // The time counts from the end of the preparations.
  const atLeast = (entry.order.settle ?? 0) + seconds;
  const order = { ...entry.order, seconds: expected ? Math.max(successTimeoutSeconds, atLeast) : atLeast };
  const { findings, reading } = await run(scene, entry, order, expected);
  const { credentials, tokens, roles, text } = findings;
  const secrets = (await scene.victimSecrets()).filter((secret) => text.includes(secret));
  const leaks = leaksHostSecret(text) ? ["the host's own credentials"] : [];
  // The victim does not get all that was overheard.
  const read = reading?.tokens.filter((token) => text.includes(token)) ?? [];
  const overheard = findings.answers["answers overheard"] ?? 0;
  return {
    entry,
    expected,
    succeeded:
      reading === undefined ? credentials.length > 0 && secrets.length > 0 : read.length + overheard > 0,
    reading,
    loot: [
      ...tokens.map(() => "a token"),
      ...roles.map(() => "a role name"),
      ...credentials.map(() => "credentials"),
      ...secrets.map(() => "a secret"),
      ...read.map(() => "an answer"),
      ...Array.from({ length: overheard }, () => "an answer overheard"),
      ...leaks,
    ],
    findings,
  };
}

async function run(
  scene: Scene,
  { attacker, event }: Entry,
  order: Order,
  expected: boolean,
): Promise<{ readonly findings: Findings; readonly reading: Reading | undefined }> {
  if (order.attack !== "overhear")
    return { findings: await scene.attack(attacker, order), reading: undefined };
  const limits = expected ? open : whole;
  const overhearing = { ...order, seconds: limits.seconds + 20, enough: expected ? enough : 1_000_000 };
  return await scene.overhear(attacker, overhearing, limits, event);
}
