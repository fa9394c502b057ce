import { randomBytes } from "node:crypto";
import { readlink } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { explain } from "../errors.ts";
import { type Hold, type Run, whyNot } from "./command.ts";
import { type Listed, parseListing } from "./ip-listing.ts";
import { candidates, type Network, networksOf } from "./probe-addresses.ts";
import type { ProbeOrder } from "./probe-client.ts";

/** What a probe runs on the host. */
export type ProbeHost = {
  readonly run: Run;
  readonly hold: Hold;
  /** The command that carries out a `ProbeOrder`, which is its last argument. */
  readonly client: readonly string[];
};

/** A network namespace on a bridge, like that of a container that no engine knows. */
export type ProbeNamespace = {
  readonly mac: string;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /** Runs a command inside. */
  readonly inside: Run;
  tell(order: ProbeOrder): Promise<unknown>;
  close(): Promise<void>;
};

export type Entered =
  | { readonly ok: true; readonly namespace: ProbeNamespace }
  | { readonly ok: false; readonly why: string };

/** How long an owner of an address has to answer: a container on the same host takes microseconds. */
const arpMs = 600;
/** IPv6's duplicate address detection takes a second, and up to a second of delay before it. */
const ipv6ReadyMs = 4_000;
/** Addresses that are tried at once. */
const tried = 4;

class Failed extends Error {}

/**
 * Makes a network namespace with a port on the bridge and addresses that nobody has. The namespace lives as
 * long as a process that reads our end of a pipe, so it is gone even if we are killed, and with it the port.
 */
export async function enterBridge(host: ProbeHost, bridge: string): Promise<Entered> {
  const { run, hold, client } = host;
  const holder = await hold("unshare", ["--net", "sh", "-c", "readlink /proc/self/ns/net; exec cat"]);
  if (!holder.ok) return { ok: false, why: `making a network namespace: ${holder.why}` };
  const { held } = holder;
  const namespaceFile = `/proc/${held.pid}/ns/net`;
  const inside: Run = (command, args, input, limitMs) =>
    run("nsenter", [`--net=${namespaceFile}`, "--", command, ...args], input, limitMs);
  const must = async (how: Run, command: string, ...args: readonly string[]) => {
    const outcome = await how(command, args);
    if (outcome.kind === "ran" && outcome.exitCode === 0) return outcome.stdout;
    throw new Failed(`${command} ${args.join(" ")}: ${whyNot(command, outcome)}`);
  };
  const tell = async (order: ProbeOrder): Promise<unknown> => {
    const [command = "", ...args] = client;
    return JSON.parse(await must(inside, command, ...args, JSON.stringify(order)));
  };
  try {
    // Everything below is done to the namespace of this process. It must not be the host's.
    const own = await readlink("/proc/self/ns/net");
    const its = await readlink(namespaceFile);
    if (its === own || its !== held.line) throw new Failed("the new network namespace is not there");
    const networks = networksOf(await must(run, "ip", "-j", "addr", "show", "dev", bridge));
    if (networks.ipv4 === undefined && networks.ipv6 === undefined)
      throw new Failed("the bridge has no address");
    // A container's port is called veth, by which rules may know it. A bridge whose address was not set takes
    // the lowest of its ports', so ours is as high as it can be.
    const suffix = randomBytes(3);
    const port = `vethprobe${suffix.toString("hex")}`;
    const high = ["fe", "ff", "ff", ...(suffix.toString("hex").match(/../g) ?? [])].join(":");
    const peer = ["type", "veth", "peer", "name", "eth0", "netns", String(held.pid)];
    await must(run, "ip", "link", "add", "name", port, "address", high, ...peer);
    await must(run, "ip", "link", "set", "dev", port, "master", bridge, "up");
    await must(inside, "ip", "link", "set", "dev", "lo", "up");
    await must(inside, "ip", "link", "set", "dev", "eth0", "up");
    const ipv4 = networks.ipv4 && (await takeIpv4(networks.ipv4));
    const ipv6 = networks.ipv6 && (await takeIpv6(networks.ipv6));
    const [link] = parseListing(await must(inside, "ip", "-j", "link", "show", "dev", "eth0"));
    const mac = typeof link?.address === "string" ? link.address : "";
    // The kernel takes a namespace apart in its own time, so the port is removed first.
    const close = async () => {
      await run("ip", ["link", "delete", "dev", port]);
      await held.release();
    };
    return { ok: true, namespace: { mac, ipv4, ipv6, inside, tell, close } };
  } catch (error) {
    await held.release();
    return { ok: false, why: explain(error) };
  }

  async function takeIpv4({ address: gateway, prefix, network }: Network): Promise<string> {
    const free = candidates(gateway, prefix, tried);
    await must(inside, "ip", "route", "add", network, "dev", "eth0", "scope", "link");
    let neighbours: readonly Listed[] = [];
    // A link that has just come up may lose the first question.
    for (let round = 0; round < 4; round += 1) {
      await tell({ do: "arp", addresses: [gateway, ...free] });
      await delay(arpMs);
      neighbours = parseListing(await must(inside, "ip", "-j", "neigh", "show", "dev", "eth0"));
      if (hasOwner(neighbours, gateway)) break;
    }
    if (!hasOwner(neighbours, gateway))
      throw new Failed(`${gateway}, the host's address on the bridge, does not answer ARP there`);
    const address = free.find((one) => !hasOwner(neighbours, one));
    if (address === undefined) throw new Failed(`the last ${tried} addresses of ${network} are in use`);
    await must(inside, "ip", "addr", "add", `${address}/${prefix}`, "dev", "eth0");
    await must(inside, "ip", "route", "replace", "default", "via", gateway);
    return address;
  }

  async function takeIpv6({ address: gateway, prefix }: Network): Promise<string> {
    const [address] = candidates(gateway, prefix, 1);
    if (address === undefined) throw new Failed(`the network of ${gateway} has no other address`);
    await must(inside, "ip", "-6", "addr", "add", `${address}/${prefix}`, "dev", "eth0");
    for (let waited = 0; ; waited += 200) {
      const [shown] = parseListing(await must(inside, "ip", "-j", "-6", "addr", "show", "dev", "eth0"));
      const list = Array.isArray(shown?.addr_info) ? (shown.addr_info as readonly unknown[]) : [];
      const info = list.find((one) => isOf(one, address));
      if (info?.dadfailed === true) throw new Failed(`${address} is in use`);
      if (info !== undefined && info.tentative !== true) break;
      if (waited > ipv6ReadyMs) throw new Failed(`${address} was not confirmed as free`);
      await delay(200);
    }
    await must(inside, "ip", "-6", "route", "replace", "default", "via", gateway, "dev", "eth0");
    return address;
  }
}

function hasOwner(neighbours: readonly Listed[], address: string): boolean {
  return neighbours.some(({ dst, lladdr }) => dst === address && typeof lladdr === "string");
}

function isOf(info: unknown, address: string): info is Listed {
  return typeof info === "object" && info !== null && "local" in info && info.local === address;
}
