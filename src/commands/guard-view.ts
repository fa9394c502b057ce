import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import type { Environment } from "../config/load.ts";
import type { Container } from "../containers/container.ts";
import { Directory } from "../containers/directory.ts";
import type { Protection } from "../containers/protection.ts";
import type { EngineState } from "../engine/connection.ts";
import { explain } from "../errors.ts";
import type { Log } from "../log.ts";
import { adminSocketName, askAdmin } from "../observability/admin.ts";
import { hostClocks } from "./clocks.ts";
import { packagedGuardSocket } from "./configuration.ts";
import { followGuard } from "./follow-guard.ts";
import { packagedRuntimeDirectory } from "./status.ts";

/** What the running proxy says about its guard. */
export type ProxyView =
  | { readonly kind: "not running" }
  | { readonly kind: "without a guard" }
  | { readonly kind: "connected" | "not connected"; readonly path: string; readonly lastError: string };

/** What the guard says now. Read once, for the commands that report and exit. */
export type GuardView = {
  readonly path: string;
  readonly proxy: ProxyView;
  /** Why the guard does not answer; undefined if it does. */
  readonly silentBecause: string | undefined;
  readonly version: string | undefined;
  readonly engines: readonly EngineState[];
  readonly containers: readonly Container[];
  protectionOf(id: string): Protection;
};

/** An operator waits for the answer. */
const askMs = 2_000;
const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/**
 * Asks the running proxy which guard it follows, and that guard for the containers.
 * @param socket the value of --guard; by default the proxy's, or else the packages'
 */
export async function viewGuard(
  socket: string | undefined,
  environment: Pick<Environment, "runtimeDirectory">,
): Promise<GuardView> {
  const proxy = await proxyView(environment.runtimeDirectory ?? packagedRuntimeDirectory);
  const path = socket ?? ("path" in proxy ? proxy.path : packagedGuardSocket);
  const absent = await access(path, constants.R_OK | constants.W_OK).then(() => undefined, accessProblem);
  if (absent !== undefined) return { ...nothing, path, proxy, silentBecause: absent };
  const directory = new Directory();
  const following = followGuard(path, { ...hostClocks(), directory, log: silent });
  await following.listed;
  const { guard } = following;
  const { connected, lastError, version } = guard.state();
  const containers = directory.containers();
  const protections = new Map(containers.map(({ id }) => [id, guard.locks.protectionOf(id)]));
  const engines = following.states();
  await following.stop();
  if (!connected)
    return { ...nothing, path, proxy, version, silentBecause: lastError ?? "it does not answer" };
  const protectionOf = (id: string) => protections.get(id) ?? guard.locks.protectionOf(id);
  return { path, proxy, silentBecause: undefined, version, engines, containers, protectionOf };
}

const nothing = {
  version: undefined,
  engines: [],
  containers: [],
  protectionOf: (): Protection => ({ locked: false, reason: "the guard does not answer" }),
} satisfies Partial<GuardView>;

async function proxyView(runtimeDirectory: string): Promise<ProxyView> {
  const answer = await askAdmin(join(runtimeDirectory, adminSocketName), askMs).catch(() => undefined);
  if (answer === undefined) return { kind: "not running" };
  const guard = member(answer, "guard");
  const path = member(guard, "path");
  if (typeof path !== "string") return { kind: "without a guard" };
  const kind = member(guard, "connected") === true ? "connected" : "not connected";
  return { kind, path, lastError: String(member(guard, "lastError") ?? "it has not answered yet") };
}

function accessProblem(error: unknown): string {
  switch (member(error, "code")) {
    case "ENOENT":
      return "there is no such socket";
    case "EACCES":
      return "this user may not open its socket";
    default:
      return explain(error);
  }
}

/** Undefined also where `of` is no object: another version of the proxy may be running. */
function member(of: unknown, key: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined;
}
