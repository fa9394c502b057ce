import { join } from "node:path";
import type { Environment } from "../config/load.ts";
import { explain, OperatorError } from "../errors.ts";
import { adminSocketName, askAdmin } from "../observability/admin.ts";
import { version } from "../version.ts";
import type { Finding } from "./finding.ts";
import { packagedRuntimeDirectory } from "./status.ts";

const askMs = 4_000;

/** What the running proxy says about itself. That none runs is a finding about its unit. */
export async function proxyFindings(
  environment: Pick<Environment, "runtimeDirectory">,
  configPath: string,
): Promise<readonly Finding[]> {
  const path = join(environment.runtimeDirectory ?? packagedRuntimeDirectory, adminSocketName);
  let answer: unknown;
  try {
    answer = await askAdmin(path, askMs);
  } catch (error) {
    const code = error instanceof Error ? member(error.cause, "code") : undefined;
    if (code === "ENOENT" || code === "ECONNREFUSED") return [];
    const hint = error instanceof OperatorError ? error.hint : "";
    // An ordinary user may not ask it; that it does not answer is another matter.
    const ok = code === "EACCES" ? undefined : false;
    return [{ subject: "proxy", ok, text: explain(error), hint }];
  }
  const text = (key: string) => String(member(answer, key) ?? "unknown");
  const findings: Finding[] = [];
  const healthy = member(answer, "healthy") === true;
  findings.push({
    subject: "proxy",
    ok: healthy,
    text: `running, version ${text("version")}: ${text("summary")}`,
    hint: healthy ? "" : "`ec2metaproxy status` says more.",
  });
  if (text("version") !== version)
    findings.push({
      subject: "proxy",
      ok: undefined,
      text: `the running proxy has version ${text("version")}, and this program ${version}`,
      hint: "Run: systemctl restart ec2metaproxy ec2metaproxy-guard",
    });
  if (text("configPath") !== configPath)
    findings.push({
      subject: "proxy",
      ok: undefined,
      text: `the running proxy uses ${text("configPath")}, not ${configPath}`,
      hint: "",
    });
  return findings;
}

/** Undefined also where `of` is no object: another version of the proxy may be running. */
function member(of: unknown, key: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined;
}
