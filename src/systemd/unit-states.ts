/** The packaged units, in the order in which `check` lists them. */
export const packagedUnits = [
  "ec2metaproxy.service",
  "ec2metaproxy.socket",
  "ec2metaproxy-guard.service",
  "ec2metaproxy-firewall.service",
  "ec2metaproxy-firewall.timer",
  "ec2metaproxy-firewall-repair.path",
] as const;

/** The properties that `parseUnits` reads. */
export const unitProperties = [
  "Id",
  "LoadState",
  "ActiveState",
  "SubState",
  "UnitFileState",
  "Result",
  "NRestarts",
  "ExecMainStatus",
  "User",
  "Group",
  "Environment",
  "EnvironmentFiles",
  "ExecStart",
  "Listen",
] as const;

type Property = (typeof unitProperties)[number];

/** A unit as systemd sees it. Properties that it does not have are empty. */
export type Unit = {
  readonly name: string;
  readonly isLoaded: boolean;
  readonly load: string;
  /** `active`, `activating`, `inactive`, `failed`, … */
  readonly active: string;
  /** `running`, `auto-restart`, … */
  readonly sub: string;
  /** `enabled`, `disabled`, `masked`, … */
  readonly file: string;
  readonly result: string;
  readonly restarts: number;
  readonly exitStatus: number;
  readonly user: string;
  readonly group: string;
  readonly environment: string;
  /** Paths, and whether a missing file is no error. */
  readonly environmentFiles: readonly { readonly path: string; readonly isOptional: boolean }[];
  /** The value of `-c` in ExecStart=. */
  readonly configPath: string | undefined;
  /** Whether ExecStart= has --guard. */
  readonly followsGuard: boolean;
  /** The TCP ports of a socket. */
  readonly ports: readonly number[];
};

/** Reads the output of `systemctl show UNIT… --property=…`. */
export function parseUnits(shown: string): readonly Unit[] {
  return shown
    .split(/\n\s*\n/)
    .map(unitOf)
    .filter(({ name }) => name !== "");
}

function unitOf(block: string): Unit {
  const lines = block.split("\n");
  const all = (property: Property): readonly string[] =>
    lines.filter((line) => line.startsWith(`${property}=`)).map((line) => line.slice(property.length + 1));
  const first = (property: Property) => all(property)[0] ?? "";
  const files = all("EnvironmentFiles").flatMap((value) => {
    const [, path, ignore] = /^(\/.*?)(?: \(ignore_errors=(yes|no)\))?$/.exec(value) ?? [];
    return path === undefined ? [] : [{ path, isOptional: ignore === "yes" }];
  });
  const ports = all("Listen").flatMap((value) => {
    const [, port] = /:(\d+) \(Stream\)$/.exec(value) ?? [];
    return port === undefined ? [] : [Number(port)];
  });
  return {
    name: first("Id"),
    isLoaded: first("LoadState") === "loaded",
    load: first("LoadState"),
    active: first("ActiveState"),
    sub: first("SubState"),
    file: first("UnitFileState"),
    result: first("Result"),
    restarts: Number(first("NRestarts")) || 0,
    exitStatus: Number(first("ExecMainStatus")) || 0,
    user: first("User"),
    group: first("Group"),
    environment: first("Environment"),
    environmentFiles: files,
    configPath: /argv\[\]=\S+.*? (?:-c|--config)[ =](\S+)/.exec(first("ExecStart"))?.[1],
    followsGuard: / --guard[ =]/.test(first("ExecStart")),
    ports,
  };
}
