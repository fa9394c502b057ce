import { exitCodes, OperatorError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import type { Ruleset } from "./ruleset.ts";

export type Choice = { readonly backend: Backend; readonly reason: string };

/**
 * The backend that the operator named, or the first one that takes the rules.
 * @param backends in the order of preference
 * @throws OperatorError 69 where none does, or the named one does not; nothing is changed
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
      return { backend, reason: reasons.join("; ") || `this host takes ${backend.name} rules` };
    }
    if (wanted !== "auto" || obstacle.decides) throw obstacle.error;
    reasons.push(obstacle.reason);
  }
  throw new OperatorError(`no packet filter of this host takes the rules: ${reasons.join("; ")}`, {
    hint: "Install the package nftables (or iptables), or load the kernel's modules: modprobe -a nf_tables nft_chain_nat nft_redir nft_ct.",
    exitCode: exitCodes.unavailable,
  });
}
