import type { Attachment, Container, Risk } from "../containers/container.ts";
import { address, type Fields, JsonShapeError, list, mac, object, string } from "./json.ts";

/** What an engine reports about one container. The JSON form stays in this file. */
export type Inspected = {
  readonly container: Container;
  /** Running or paused; not restarting, created or exited. */
  readonly running: boolean;
  /** Milliseconds since the epoch, on the engine's clock; undefined before the first start. */
  readonly startedAt: number | undefined;
};

/**
 * Reads the answer to `GET /containers/<id>/json`, for Engine API 1.41 to 1.52 and Podman. Every field is
 * checked, so that an answer of another shape never becomes a half-filled container.
 * @throws JsonShapeError if a fact that decides about identity or role is missing or has the wrong type.
 */
export function readInspect(answer: unknown): Inspected {
  const inspect = object(answer, "the answer");
  const id = inspect.Id;
  if (typeof id !== "string" || !/^[0-9a-f]{64}$/.test(id))
    throw new JsonShapeError("Id", "64 hex digits", id);
  const config = object(inspect.Config, "Config");
  const hostConfig = object(inspect.HostConfig, "HostConfig");
  const state = object(inspect.State, "State");
  const pid = state.Pid ?? 0;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid < 0) {
    throw new JsonShapeError("State.Pid", "a process id", pid);
  }
  // Podman, between `init` and `start`: the process exists in its network but has not run yet.
  const isInitialised = pid > 0 && (state.Status === "initialized" || state.Status === "created");
  const running =
    (state.Running === true || isInitialised) && state.Restarting !== true && state.Dead !== true;
  const networkOf = sharedNetwork(hostConfig);
  const container: Container = {
    id,
    name: string(inspect.Name, "Name").replace(/^\//, ""),
    image: string(config.Image ?? "", "Config.Image"),
    imageId: string(inspect.Image ?? "", "Image"),
    labels: labels(config.Labels),
    env: roleVariables(config.Env),
    user: string(config.User ?? "", "Config.User"),
    attachments: attachments(inspect, hostConfig),
    pid: running ? pid : 0,
    risks: risks(hostConfig, inspect.Mounts),
    ...(networkOf !== undefined && { networkOf }),
    source: "engine",
  };
  return { container, running, startedAt: timestamp(state.StartedAt) };
}

/** Of `container:<id>`. */
function sharedNetwork({ NetworkMode: mode }: Fields): string | undefined {
  return typeof mode === "string" && mode.startsWith("container:")
    ? mode.slice("container:".length)
    : undefined;
}

function attachments(inspect: Fields, hostConfig: Fields): Attachment[] {
  // A container that shares another's network has no address of its own: the other one has it.
  if (sharedNetwork(hostConfig) !== undefined) return [];
  const settings = object(inspect.NetworkSettings, "NetworkSettings");
  const networks = object(settings.Networks ?? {}, "NetworkSettings.Networks");
  const found: Attachment[] = [];
  for (const [network, value] of Object.entries(networks)) {
    const endpoint = object(value ?? {}, `NetworkSettings.Networks.${network}`);
    const ipv4 = address(endpoint.IPAddress);
    const ipv6 = address(endpoint.GlobalIPv6Address);
    found.push({ network, ipv4, ipv6, mac: mac(endpoint.MacAddress) });
  }
  return found;
}

/** If a variable occurs twice the first wins, as with getenv(3) in the container. */
function roleVariables(value: unknown): Container["env"] {
  const env: { IAM_ROLE?: string; IAM_POLICY?: string } = {};
  for (const entry of list(value ?? [], "Config.Env")) {
    const variable = string(entry, "Config.Env");
    if (variable.startsWith("IAM_ROLE=")) env.IAM_ROLE ??= variable.slice("IAM_ROLE=".length);
    else if (variable.startsWith("IAM_POLICY=")) env.IAM_POLICY ??= variable.slice("IAM_POLICY=".length);
  }
  return env;
}

function labels(value: unknown): Record<string, string> {
  // No prototype: a label named `__proto__` is a label like any other.
  const found: Record<string, string> = Object.create(null);
  for (const [name, text] of Object.entries(object(value ?? {}, "Config.Labels"))) {
    found[name] = string(text, `Config.Labels.${name}`);
  }
  return found;
}

function risks(hostConfig: Fields, mounts: unknown): Risk[] {
  const found: Risk[] = [];
  const capabilities = capabilitiesAdded(hostConfig.CapAdd);
  const all = capabilities.has("ALL");
  if (hostConfig.Privileged === true) found.push("privileged");
  if (mountsEngineSocket(mounts, hostConfig.Binds)) found.push("docker-socket");
  if (hostConfig.NetworkMode === "host") found.push("host-network");
  if (hostConfig.PidMode === "host") found.push("host-pid");
  if (all || capabilities.has("NET_ADMIN")) found.push("net-admin");
  if (all || capabilities.has("NET_RAW")) found.push("net-raw-added");
  return found;
}

function capabilitiesAdded(value: unknown): Set<string> {
  return new Set(
    list(value ?? [], "HostConfig.CapAdd").map((name) => String(name).toUpperCase().replace(/^CAP_/, "")),
  );
}

/** The socket, under any of its usual names, or a directory that contains it: think of `-v /:/host`. */
function mountsEngineSocket(mounts: unknown, binds: unknown): boolean {
  const sources = list(mounts ?? [], "Mounts").map((mount) => object(mount, "Mounts").Source);
  // Before the first start, Podman lists a bind in Binds but not in Mounts.
  for (const bind of list(binds ?? [], "HostConfig.Binds")) sources.push(String(bind).split(":", 1)[0]);
  return sources.some(
    (source) => typeof source === "string" && reachesEngineSocket(source.replace(/(?<=.)\/+$/, "")),
  );
}

function reachesEngineSocket(source: string): boolean {
  if (/(^|\/)(docker|podman|containerd)\.sock$/.test(source)) return true;
  return engineSocketDirectories.includes(source);
}

const engineSocketDirectories = [
  "/",
  "/run",
  "/var",
  "/var/run",
  "/run/docker",
  "/run/podman",
  "/var/run/podman",
  "/run/containerd",
];

/** Engines write 0001-01-01T00:00:00Z for "never". */
function timestamp(value: unknown): number | undefined {
  if (typeof value !== "string") return undefined;
  const at = Date.parse(value);
  return Number.isNaN(at) || at <= 0 ? undefined : at;
}
