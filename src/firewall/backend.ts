import type { Ruleset } from "./ruleset.ts";

/** What of a ruleset is in force. */
export type Comparison = {
  /** Anything of ours is there, even if it is not what it should be. */
  readonly present: boolean;
  /** Rules that should be there and are not, in the words of the backend. */
  readonly missing: readonly string[];
  /** Rules in our chains that nobody of us put there. */
  readonly unexpected: readonly string[];
};

/** A packet filter of the host. */
export type Backend = {
  readonly name: "nftables" | "iptables";
  /** What the one-line result of `apply` calls our part of the filter. */
  readonly place: string;
  render(rules: Ruleset): string;
  /** Why this host cannot take these rules; undefined where it can. Changes nothing. */
  obstacle(rules: Ruleset): Promise<Obstacle | undefined>;
  /** @throws OperatorError where the filter cannot be read. */
  compare(rules: Ruleset): Promise<Comparison>;
  /** All or nothing: where it throws, the former rules are in force as they were. */
  apply(rules: Ruleset): Promise<void>;
  /** True if there was something to remove. A host without this filter has nothing. */
  remove(): Promise<boolean>;
};

export type Obstacle = {
  readonly reason: string;
  readonly error: Error;
  /** It says nothing about the host, since the user may not ask or the host has nothing to spare: no reason to take another filter. */
  readonly decides: boolean;
};

export function inPlace(comparison: Comparison): boolean {
  return comparison.present && comparison.missing.length === 0 && comparison.unexpected.length === 0;
}
