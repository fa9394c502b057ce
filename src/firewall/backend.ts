import { exitCodes, OperatorError } from "../errors.ts";
import type { Ruleset } from "./ruleset.ts";

/** The differences between a ruleset and the rules in force. */
export type Comparison = {
  /** Whether any of our rules exist, even wrong ones. */
  readonly present: boolean;
  /** Rules that should exist and do not, in the backend's syntax. */
  readonly missing: readonly string[];
  /** Rules in our chains that do not belong there. */
  readonly unexpected: readonly string[];
};

/** A packet filter of the host. */
export type Backend = {
  readonly name: "nftables" | "iptables";
  /** Where our rules are, for the one-line result of `apply`. */
  readonly place: string;
  render(rules: Ruleset): string;
  /** Why this host cannot use these rules; undefined if it can. Changes nothing. */
  obstacle(rules: Ruleset): Promise<Obstacle | undefined>;
  /** @throws OperatorError if the filter cannot be read */
  compare(rules: Ruleset): Promise<Comparison>;
  /** All or nothing: if it throws, the previous rules are in force unchanged. */
  apply(rules: Ruleset): Promise<void>;
  /** True if there was something to remove. On a host without this filter there is nothing. */
  remove(): Promise<boolean>;
};

type Obstacle = {
  readonly reason: string;
  readonly error: Error;
  /**
   * Whether to stop here instead of trying the next backend: missing permissions or a temporary lack of
   * resources says nothing about what the host supports.
   */
  readonly decides: boolean;
};

export function inPlace(comparison: Comparison): boolean {
  return comparison.present && comparison.missing.length === 0 && comparison.unexpected.length === 0;
}

export type Choice = { readonly backend: Backend; readonly reason: string };

/**
 * Chooses the backend that the operator named, or the first one that takes the rules.
 * @param backends in order of preference
 * @throws OperatorError 69 if none takes them, or the named one does not; nothing is changed
 */
export async function chooseBackend(
  wanted: "auto" | Backend["name"],
  backends: readonly Backend[],
  rules: Ruleset,
): Promise<Choice> {
  const reasons: string[] = [];
  for (const backend of backends.filter(({ name }) => wanted === "auto" || wanted === name)) {
    const obstacle = await backend.obstacle(rules);
    if (obstacle === undefined) {
      if (wanted !== "auto") return { backend, reason: `BACKEND=${wanted}` };
      return { backend, reason: reasons.join("; ") || `this host supports ${backend.name}` };
    }
    if (wanted !== "auto" || obstacle.decides) throw obstacle.error;
    reasons.push(obstacle.reason);
  }
  throw new OperatorError(`no packet filter on this host takes the rules: ${reasons.join("; ")}`, {
    hint: "Install the package nftables (or iptables), or load the kernel modules: modprobe -a nf_tables nft_chain_nat nft_redir nft_ct.",
    exitCode: exitCodes.unavailable,
  });
}
