import { execFileSync } from "node:child_process";

/**
 * Why the tests with real packets cannot run here; undefined if they can.
 * @param more commands that they need beside the usual ones
 * @throws on CI, where they must run
 */
export function unable(
  environment: { readonly CI?: string | undefined },
  more: readonly string[] = [],
): string | undefined {
  const reason = lacking(more);
  if (reason !== undefined && environment.CI === "true")
    throw new Error(`the tests in test/netns cannot run: ${reason}`);
  return reason;
}

function lacking(more: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return "they need root, for network namespaces";
  for (const command of [
    "ip",
    "nft",
    "iptables-nft",
    "iptables-legacy",
    "ip6tables-legacy",
    "sysctl",
    "ping",
    ...more,
  ]) {
    try {
      execFileSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" });
    } catch {
      return `they need the command ${command}`;
    }
  }
  return undefined;
}
