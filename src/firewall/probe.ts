import { setTimeout as delay } from "node:timers/promises";
import type { Follow, Run } from "./command.ts";
import { listenersOf, notTheProxy } from "./listeners.ts";
import { countedSince, countersOf } from "./probe-counters.ts";
import { cure } from "./probe-cure.ts";
import { enterBridge, type ProbeHost, type ProbeNamespace } from "./probe-namespace.ts";
import { type Traced, trace } from "./probe-trace.ts";
import type { Family } from "./ruleset.ts";
import type { Settings } from "./settings.ts";

/** What became of a container's request to the metadata service, tried with a real one. */
export type Probed = {
  readonly bridge: string;
  readonly family: Family | undefined;
  /** `true`: the proxy answers. Undefined where it was not tried. */
  readonly ok: boolean | undefined;
  readonly result: "proxy" | "other program" | "real service" | "no answer" | "nobody listens" | "not tried";
  readonly text: string;
  readonly hint: string;
};

export type ProbeTools = ProbeHost & {
  readonly follow: Follow;
  /** Whether a process of the host is the proxy. */
  readonly isProxy: (pid: number) => Promise<boolean>;
  /** Part of the names of what the probe makes. */
  readonly suffix: () => string;
};

/** The proxy keeps an unknown caller waiting for 2 s, in case its container has just started. */
const answerMs = 5_000;
/** Enough for a packet and one that repeats it. */
const tracedMs = 1_500;
const pollMs = 150;

type Landed = { readonly port: number; readonly state: string };

/** Sends a request from a new network namespace on the bridge, for each of its families. */
export async function probeBridge(
  tools: ProbeTools,
  settings: Settings,
  bridge: string,
): Promise<readonly Probed[]> {
  const { processes: listeners } = await listenersOf(tools.run, settings.proxyPort);
  const isAsleep = listeners.length > 0 && listeners.every(({ pid }) => pid === 1);
  if (isAsleep)
    return [
      notTried(
        bridge,
        `not tried: the proxy does not run, and a request to port ${settings.proxyPort} would start it (ec2metaproxy.socket)`,
        "Run: systemctl start ec2metaproxy",
      ),
    ];
  const entered = await enterBridge(tools, bridge);
  if (!entered.ok) return [notTried(bridge, `not tried: ${entered.why}`, "")];
  const { namespace } = entered;
  try {
    const families = [
      ["ipv4", settings.metadataIpv4],
      ["ipv6", settings.metadataIpv6],
    ] as const;
    return await Promise.all(
      families.flatMap(([family, metadata]) => {
        const address = namespace[family];
        if (address === undefined || (family === "ipv6" && settings.ipv6 === "off")) return [];
        return [probeFamily(tools, settings, namespace, { bridge, family, metadata, address })];
      }),
    );
  } finally {
    await namespace.close();
  }
}

type Attempt = {
  readonly bridge: string;
  readonly family: Family;
  readonly metadata: string;
  readonly address: string;
};

async function probeFamily(
  tools: ProbeTools,
  settings: Settings,
  namespace: ProbeNamespace,
  attempt: Attempt,
): Promise<Probed> {
  const { bridge, family, metadata, address } = attempt;
  const { metadataPort, proxyPort } = settings;
  const ask = (timeoutMs: number) =>
    namespace.tell({ do: "get", address: metadata, port: metadataPort, timeoutMs });
  const [answer, landed] = await whileWatching(tools.run, address, ask(answerMs));
  const probed = (ok: boolean, result: Probed["result"], what: string, hint = ""): Probed => ({
    bridge,
    family,
    ok,
    result,
    text: `${bridge}: a request from ${address} to ${metadata}:${metadataPort} ${what}`,
    hint,
  });
  const leaks = (how: string) =>
    probed(
      false,
      "real service",
      `WAS ANSWERED BY THE REAL METADATA SERVICE (${how}): containers there get the instance's own role`,
      "Run: ec2metaproxy firewall apply",
    );
  const listeners = await listenersOf(tools.run, landed?.port ?? proxyPort);
  const others = await notTheProxy(tools.isProxy, listeners.processes);
  const named = others.map(({ name, pid }) => `${name} (pid ${pid})`).join(", ");
  if (answer.kind === "answered") {
    const said = `HTTP ${answer.status}`;
    if (landed === undefined && Object.keys(settings.proxyAddress).length > 0)
      return probed(true, "proxy", `was answered at PROXY_ADDRESS with ${said}`);
    if (landed === undefined) return leaks(`${said}, server ${answer.server}`);
    if (others.length > 0)
      return probed(
        false,
        "other program",
        `was answered by another program on port ${landed.port}: ${named}`,
        `End it, or give the proxy another port ("listen" in config.json and ec2metaproxy.socket).`,
      );
    return answer.status >= 500
      ? probed(
          false,
          "proxy",
          `reached the proxy, which answered ${said}: at the moment it cannot tell who is a container`,
          "`ec2metaproxy status` says why.",
        )
      : probed(true, "proxy", `reached the proxy (${said}, as for any caller that is no container)`);
  }
  const isSynOnly = landed === undefined || /^SYN/i.test(landed.state);
  if (answer.connected && !isSynOnly)
    return probed(
      false,
      "no answer",
      `reached port ${landed.port} and got no answer (${answer.code})`,
      others.length > 0
        ? `Another program has the port: ${named}.`
        : "`ec2metaproxy status` and `journalctl -u ec2metaproxy` say what the proxy is doing.",
    );
  const why = `got no answer (${answer.code})`;
  const before = await countersOf(tools.run, family);
  const probe = { mac: namespace.mac, address, metadata };
  const traced = await trace(tools, probe, tools.suffix(), () => ask(tracedMs));
  if (traced.kind === "eaten") {
    const { by } = traced;
    const zone = await zoneOf(tools.run, bridge);
    const iptables = family === "ipv4" ? "iptables" : "ip6tables";
    return probed(
      false,
      "no answer",
      `${why}: the chain ${by.chain} of table ${by.table} dropped the ${by.packet.inInterface === undefined ? "answer" : "packet"}, by ${by.by}`,
      cure(by, { bridge, family, proxyPort, zone, iptables }),
    );
  }
  if (traced.kind === "passed" && !traced.redirected && answer.connected) return leaks(answer.code);
  const after = before === undefined ? undefined : await countersOf(tools.run, family);
  const counted =
    before === undefined || after === undefined
      ? []
      : countedSince(before.listing, after.listing, {
          family,
          bridge,
          address,
          ports: [metadataPort, proxyPort],
        });
  const [first] = counted;
  if (first !== undefined && before !== undefined) {
    const rules = counted.map(
      ({ table, chain, by }) => `the chain ${chain} of ${before.program}'s table ${table}, by ${by}`,
    );
    const hint = `Run: ${before.program} -I INPUT -i ${bridge} -p tcp --dport ${proxyPort} -j ACCEPT  (and keep it where that rule comes from, so that it survives a restart)`;
    return probed(false, "no answer", `${why}: dropped by ${rules.join(", or ")}`, hint);
  }
  if (answer.code === "ECONNREFUSED" && listeners.kind === "nobody")
    return probed(
      false,
      "nobody listens",
      `was refused: nobody listens on port ${proxyPort}`,
      "Run: systemctl start ec2metaproxy. If it runs, its socket has another port than the rules: `ec2metaproxy check` says which.",
    );
  return probed(
    false,
    "no answer",
    `${why}: ${unexplained(traced, settings)}`,
    "Run: ec2metaproxy firewall apply",
  );
}

function unexplained(traced: Exclude<Traced, { kind: "eaten" }>, settings: Settings): string {
  switch (traced.kind) {
    case "passed":
      return traced.redirected
        ? `no rule dropped it; it was redirected to port ${settings.proxyPort}`
        : "no rule redirected it to the proxy, and it went no further";
    case "not seen":
      return "its packets did not come as far as the rules of this host";
    case "untraced":
      return `which rule dropped it cannot be traced here (${traced.why})`;
  }
}

function notTried(bridge: string, text: string, hint: string): Probed {
  return { bridge, family: undefined, ok: undefined, result: "not tried", text: `${bridge}: ${text}`, hint };
}

type Answer =
  | { readonly kind: "answered"; readonly status: number; readonly server: string }
  | { readonly kind: "failed"; readonly connected: boolean; readonly code: string };

/** The answer, and the host's end of the probe's connection, if the host has one. */
async function whileWatching(
  run: Run,
  address: string,
  asked: Promise<unknown>,
): Promise<readonly [Answer, Landed | undefined]> {
  let isOver = false;
  let landed: Landed | undefined;
  const answered = asked.finally(() => {
    isOver = true;
  });
  // The rejection is taken below.
  answered.catch(() => undefined);
  while (!isOver) {
    landed = (await socketOf(run, address)) ?? landed;
    await delay(pollMs);
  }
  return [answerOf(await answered), landed];
}

function answerOf(value: unknown): Answer {
  if (typeof value === "object" && value !== null && "kind" in value) {
    if (value.kind === "answered" && "status" in value && "server" in value)
      return { kind: "answered", status: Number(value.status), server: String(value.server) };
    if (value.kind === "failed" && "connected" in value && "code" in value)
      return { kind: "failed", connected: value.connected === true, code: String(value.code) };
  }
  return { kind: "failed", connected: false, code: "the probe's client printed no answer" };
}

async function socketOf(run: Run, address: string): Promise<Landed | undefined> {
  const outcome = await run("ss", [
    "-H",
    "-t",
    "-a",
    "-n",
    "dst",
    address.includes(":") ? `[${address}]` : address,
  ]);
  if (outcome.kind === "missing" || outcome.exitCode !== 0) return undefined;
  const [state = "", , , local = ""] = outcome.stdout.split("\n")[0]?.trim().split(/\s+/) ?? [];
  const port = Number(/:(\d+)$/.exec(local)?.[1]);
  return Number.isNaN(port) ? undefined : { port, state };
}

async function zoneOf(run: Run, bridge: string): Promise<string | undefined> {
  const outcome = await run("firewall-cmd", [`--get-zone-of-interface=${bridge}`]);
  const zone = outcome.kind === "ran" && outcome.exitCode === 0 ? outcome.stdout.trim() : "";
  return /^[\w-]+$/.test(zone) ? zone : undefined;
}
