import { leaksHostSecret } from "../support/aws/account.ts";
import type { Column } from "./layers.ts";
import { type Entry, succeeds } from "./matrix.ts";
import type { Findings } from "./order.ts";
import type { Scene } from "./scene.ts";

/** One attack against a set of layers, and its result. */
export type Trial = {
  readonly entry: Entry;
  readonly expected: boolean;
  readonly succeeded: boolean;
  /** Everything that the attack got of the victim's or the host's, including a token or a role name alone. */
  readonly loot: readonly string[];
  readonly findings: Findings;
};

/** Enough for the slowest attack that succeeds: it waits until conntrack has forgotten a connection. */
const successTimeoutSeconds = 25;

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
  const findings = await scene.attack(entry.attacker, order);
  const { credentials, tokens, roles, text } = findings;
  const secrets = (await scene.victimSecrets()).filter((secret) => text.includes(secret));
  const leaks = leaksHostSecret(text) ? ["the host's own credentials"] : [];
  return {
    entry,
    expected,
    succeeded: credentials.length > 0 && secrets.length > 0,
    loot: [
      ...tokens.map(() => "a token"),
      ...roles.map(() => "a role name"),
      ...credentials.map(() => "credentials"),
      ...secrets.map(() => "a secret"),
      ...leaks,
    ],
    findings,
  };
}
