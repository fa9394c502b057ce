import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test as Tap } from "tap";
import type { Answer } from "./agent.ts";
import { command, type Filter, filters, ports } from "./backends.ts";
import { unable } from "./requirements.ts";
import { type Family, hostOn, hostOnLan, metadata, World } from "./world.ts";

type Case = {
  readonly from: string;
  readonly what: string;
  readonly expected: string;
  readonly ask: () => Promise<Answer>;
};

const bridges = [
  { name: "docker0", container: "docker", net: 1 },
  { name: "br-0123456789ab", container: "network", net: 2 },
  { name: "podman0", container: "podman", net: 3 },
  // Created only after the rules are in force.
  { name: "br-later", container: "later", net: 4 },
  // Its name is not in INTERFACES.
  { name: "backend", container: "unlisted", net: 5 },
] as const;

const skip = unable(process.env, ["ss"]) ?? false;

for (const filter of filters) {
  t.test(`${filter.name}: no packet bypasses the rules`, { timeout: 300_000, skip }, async (t) => {
    await using world = await World.make();
    const run = world.hostRun(filter.rename);
    const settings = t.testdir({});
    for (const bridge of bridges.filter(({ name }) => name !== "br-later")) world.addBridge(bridge);
    const compare = (when: string, cases: readonly Case[], inSummary = false) =>
      judge(t, filter, when, cases, inSummary);

    await compare("without rules", leaks(world));
    othersRedirects(world);
    await compare("without rules, through redirects of another tool", translatedCases(world, "docker", open));
    const old = { do: "open", address: metadata.ipv4, port: 80 } as const;
    t.equal(await world.tell("docker", old), "imds", "a connection from before the rules is open");

    t.match((await command(run, "apply", settings, filter.backend)).text, "applied");
    t.match(
      await world.tell("docker", { do: "talk" }),
      /^nothing/,
      "the connection from before the rules is dead",
    );
    const [later] = bridges.filter(({ name }) => name === "br-later");
    if (later !== undefined) world.addBridge(later);
    for (const bridged of ["0", "1"]) {
      for (const setting of ["iptables", "ip6tables"])
        world.sysctl("host", `net.bridge.bridge-nf-call-${setting}=${bridged}`);
      await compare(
        `with the rules, bridge-nf-call-iptables=${bridged}`,
        protectedCases(world),
        bridged === "1",
      );
    }
    await compare(
      "with the rules, through redirects of another tool",
      translatedCases(world, "docker", shut),
    );
    world.exec("host", "nft", "delete", "table", "inet", "others");
    t.match(
      await command(run, "status", settings, filter.backend),
      { code: 1, text: `the address ${hostOn(4).ipv4}` },
      "status reports that the frame filter lacks the address of the later bridge",
    );
    await command(run, "apply", settings, filter.backend);
    t.equal(
      (await command(run, "status", settings, filter.backend)).code,
      0,
      "status says that everything is in place",
    );

    filter.flush(world);
    const lost = await command(run, "status", settings, filter.backend);
    t.equal(lost.code, 1, "status finds that the rules were flushed");
    t.match(lost.text, "missing: ");
    await compare("after a flush, the routing guard alone", closedCases(world));

    await command(run, "apply", settings, filter.backend);
    await compare("repaired", protectedCases(world));

    flushGuard(world);
    await compare("after `ip rule flush`, the filter alone", protectedCases(world));
    t.match(
      (await command(run, "status", settings, filter.backend)).text,
      "ip -4 rule 170: from all to 169.254.169.254 blackhole",
    );

    filter.flush(world);
    await compare("with both removed (so that the cases are known to detect it)", leaks(world));

    writeFileSync(join(settings, "firewall.conf"), "REJECT_INSTEAD_OF_DROP=yes\n");
    await command(run, "apply", settings, filter.backend);
    await compare("with REJECT_INSTEAD_OF_DROP", protectedCases(world));
    await refill();
    await compare("with REJECT_INSTEAD_OF_DROP, alone", rejectedCases(world, "the guard"));
    flushGuard(world);
    await compare("with REJECT_INSTEAD_OF_DROP, the filter alone", [
      ...protectedCases(world),
      ...rejectedCases(world, "the filter"),
    ]);

    writeFileSync(
      join(settings, "firewall.conf"),
      `PROXY_ADDRESS="${hostOnLan.ipv4} ${hostOnLan.ipv6}"\nHOST_ACCESS=root\n`,
    );
    await command(run, "apply", settings, filter.backend);
    await compare("with PROXY_ADDRESS and HOST_ACCESS=root", [
      ...protectedCases(world),
      ...hostUserCases(world),
    ]);

    writeFileSync(join(settings, "firewall.conf"), "IPV6=off\nFORWARDED=listed\n");
    await command(run, "apply", settings, filter.backend);
    await compare("with IPV6=off and FORWARDED=listed", [
      ask(world, "docker", "metadata port 80, IPv4", "proxy", metadata.ipv4, 80),
      ask(world, "docker", "metadata port 80, IPv6", "nothing", metadata.ipv6, 80),
      ask(world, "unlisted", "metadata port 80, IPv4", "imds", metadata.ipv4, 80),
    ]);

    t.match((await command(run, "remove", settings)).text, /^removed/);
    await compare("removed", leaks(world));
  });
}

for (const filter of filters) {
  t.test(
    `${filter.name}: no packet reaches a container with the source of the service or of a port of the host`,
    { timeout: 120_000, skip },
    async (t) => {
      await using world = await World.make();
      const run = world.hostRun(filter.rename);
      const settings = t.testdir({});
      for (const bridge of bridges.slice(0, 2)) world.addBridge(bridge);
      world.addContainer(bridges[0], "neighbour", 3);
      for (const setting of ["iptables", "ip6tables"])
        world.sysctl("host", `net.bridge.bridge-nf-call-${setting}=1`);
      for (const port of [7000, 7001])
        await world.tell("docker", { do: "listen", protocol: "tcp", address: "::", port, banner: "docker" });
      publish(world);
      const compare = (when: string, service: string, host: string) =>
        judge(t, filter, when, namesakeCases(world, service, host), false);

      await compare("without rules", "docker", "docker");
      await command(run, "apply", settings, filter.backend);
      await compare("with the rules", "nothing", "nothing");
      const { code, text } = await command(run, "status", settings, filter.backend);
      t.equal(code, 0, text);
      filter.flush(world);
      publish(world);
      await compare("with the routing guard alone", "half open", "docker");
      await command(run, "apply", settings, filter.backend);
      await compare("repaired", "nothing", "nothing");
    },
  );
}

const families: readonly Family[] = ["ipv4", "ipv6"];
const inDocker = { ipv4: "172.30.1.2", ipv6: "fd30:1::2" } as const;

const addressOf = {
  network: { ipv4: "172.30.2.2", ipv6: "fd30:2::2" },
  neighbour: { ipv4: "172.30.1.3", ipv6: "fd30:1::3" },
} as const;

/** A published port with masqueraded clients, as Podman does for clients on its own networks. */
function publish(world: World): void {
  const to = `tcp dport 8080 dnat ip to ${inDocker.ipv4}:7000`;
  const to6 = `tcp dport 8080 dnat ip6 to [${inDocker.ipv6}]:7000`;
  const pre = `ip daddr ${hostOn(1).ipv4} ${to}; ip6 daddr ${hostOn(1).ipv6} ${to6};`;
  const chains = [
    `chain pre { type nat hook prerouting priority -100; ${pre} }`,
    // Not the packets of the metadata service: their source must not change.
    `chain post { type nat hook postrouting priority 100; ${["ip saddr 172.30.0.0/16", "ip6 saddr fd30::/16"].map((from) => `oifname "docker0" ${from} tcp dport { 7000, 7001 } masquerade;`).join(" ")} }`,
  ];
  world.exec(
    "host",
    "nft",
    `table inet published; delete table inet published; table inet published { ${chains.join("; ")}; }`,
  );
}

/** A packet that the container answers appears in its socket table, even if the answer is lost. */
function namesakeCases(world: World, service: string, host: string): readonly Case[] {
  return families.flatMap((family): Case[] => {
    const port = nextPort++;
    const reach = async (): Promise<Answer> => {
      const from = { address: metadata[family], port };
      const to = { address: inDocker[family], port: 7000 };
      const answer = await world.tell("aws", { do: "ask", protocol: "tcp", ...to, from });
      const seen = world.exec("docker", "ss", "-Hnt", "state", "syn-recv", "dport", "=", `:${port}`);
      return seen === "" ? answer : "half open";
    };
    const masqueraded = (who: "network" | "neighbour", local: number, to: string, toPort: number) => () => {
      const from = { address: addressOf[who][family], port: local };
      return world.tell(who, { do: "ask", protocol: "tcp", address: to, port: toPort, from });
    };
    // Each to a different port: of two connections that want the same source, one would get another.
    const ways = [
      ["network", "by way of the host", hostOn(1)[family], 8080],
      ["neighbour", "over the bridge", inDocker[family], 7001],
    ] as const;
    return [
      { from: "aws", what: `a container, ${family}`, expected: service, ask: reach },
      ...ways.flatMap(([who, way, to, toPort]): Case[] => [
        {
          from: who,
          what: `from the credentials port ${way}, ${family}`,
          expected: host,
          ask: masqueraded(who, ports.credentials, to, toPort),
        },
        {
          from: who,
          what: `from another port ${way}, ${family}`,
          expected: "docker",
          ask: masqueraded(who, port, to, toPort),
        },
      ]),
    ];
  });
}

/** A new one each time, so that a connection can be told from earlier ones. */
let nextPort = 20_000;

/**
 * Asserts all cases, and prints each with the expected and the actual answer. Lines that start with `table`
 * go to the summary.
 */
async function judge(
  t: Tap,
  filter: Filter,
  when: string,
  cases: readonly Case[],
  inSummary: boolean,
): Promise<void> {
  const seen = await Promise.all(cases.map(({ ask }) => ask()));
  const rows = cases.map(({ from, what, expected }, index) => {
    const answer = seen[index] ?? "";
    const ok = expected === "nothing" ? answer.startsWith("nothing") : answer === expected;
    const text = `${ok ? " " : "X"} ${from.padEnd(9)}${what.padEnd(50)} expected ${expected.padEnd(23)} seen ${answer}`;
    return { ok, text };
  });
  const good = rows.filter(({ ok }) => ok).length;
  t.comment(`table: ${filter.name}, ${when}: ${good} of ${rows.length} cases as expected`);
  for (const { text } of rows) t.comment(inSummary ? `table: ${text}` : text);
  const wrong = rows.filter(({ ok }) => !ok).map(({ text }) => text);
  t.strictSame(wrong, [], `${when}: all ${cases.length} cases are as expected`);
}

function ask(
  world: World,
  from: string,
  what: string,
  expected: string,
  address: string,
  port: number,
): Case {
  return { from, what, expected, ask: () => world.tell(from, { do: "ask", protocol: "tcp", address, port }) };
}

type Expected = { readonly proxy: string; readonly credentials: string; readonly metrics: string };

/** Direct connections to the services' ports, at each kind of address of the host. */
function portCases(
  world: World,
  from: string,
  net: number,
  family: Family,
  expected: Expected,
): readonly Case[] {
  const places = [
    { at: "its own bridge's address", address: hostOn(net)[family] },
    { at: "another bridge's address", address: hostOn(net === 1 ? 2 : 1)[family] },
    { at: "the LAN address", address: hostOnLan[family] },
  ];
  return places.flatMap(({ at, address }) =>
    (["proxy", "credentials", "metrics"] as const).map((service) =>
      ask(world, from, `${service} port at ${at}, ${family}`, expected[service], address, ports[service]),
    ),
  );
}

/** What a container may reach. `port80` is the expected answer at the metadata port. */
function containerCases(world: World, from: string, net: number, port80: string): readonly Case[] {
  return [
    ...metadataCases(world, from, port80),
    ...families.flatMap((family) =>
      portCases(world, from, net, family, {
        proxy: "nothing",
        credentials: from === "unlisted" ? "nothing" : "credentials",
        metrics: "nothing",
      }),
    ),
  ];
}

function metadataCases(world: World, from: string, port80: string): readonly Case[] {
  return families.flatMap((family) => {
    const address = metadata[family];
    const udp = (port: number): Case => ({
      from,
      what: `metadata UDP ${port}, ${family}`,
      expected: "nothing",
      ask: () => world.tell(from, { do: "ask", protocol: "udp", address, port }),
    });
    return [
      ask(world, from, `metadata port 80, ${family}`, port80, address, 80),
      ask(world, from, `metadata port 8080, ${family}`, "nothing", address, 8080),
      ask(world, from, `metadata port 18000, ${family}`, "nothing", address, 18_000),
      udp(80),
      udp(53),
      {
        from,
        what: `metadata ICMP echo, ${family}`,
        expected: "nothing",
        ask: () => world.ping(from, address),
      },
    ];
  });
}

function hostCases(world: World): readonly Case[] {
  return families.flatMap((family) => [
    ask(world, "host", `metadata port 80, ${family}`, "imds", metadata[family], 80),
    ask(world, "host", `metadata port 8080, ${family}`, "imds", metadata[family], 8080),
    ...(["proxy", "credentials", "metrics"] as const).flatMap((service) =>
      [family === "ipv4" ? "127.0.0.1" : "::1", hostOn(1)[family]].map((address) =>
        ask(world, "host", `${service} port at ${address}`, service, address, ports[service]),
      ),
    ),
  ]);
}

function lanCases(world: World, expected: Expected): readonly Case[] {
  return families.flatMap((family) => portCases(world, "lan", 1, family, expected));
}

/** Without rules. */
const open: Expected = { proxy: "proxy", credentials: "credentials", metrics: "metrics" };
const shut: Expected = { proxy: "nothing", credentials: "nothing", metrics: "nothing" };

function protectedCases(world: World): readonly Case[] {
  return [
    ...bridges.flatMap(({ container, net }) =>
      containerCases(world, container, net, container === "unlisted" ? "nothing" : "proxy"),
    ),
    ...families.map((family) =>
      ask(world, "lan", `metadata port 80 by way of the host, ${family}`, "nothing", metadata[family], 80),
    ),
    ...lanCases(world, shut),
    ...hostCases(world),
  ];
}

/** After a flush: no container is served, and only the host reaches the metadata service. */
function closedCases(world: World): readonly Case[] {
  return [
    ...bridges.flatMap(({ container }) => metadataCases(world, container, "nothing")),
    ...hostCases(world),
  ];
}

function leaks(world: World): readonly Case[] {
  return [
    ...families.flatMap((family) => [
      ask(world, "docker", `metadata port 80, ${family}`, "imds", metadata[family], 80),
      ask(world, "docker", `metadata port 8080, ${family}`, "imds", metadata[family], 8080),
    ]),
    {
      from: "docker",
      what: "metadata ICMP echo, ipv4",
      expected: "imds",
      ask: () => world.ping("docker", metadata.ipv4),
    },
    {
      from: "docker",
      what: "metadata ICMP echo, ipv6",
      expected: "imds",
      ask: () => world.ping("docker", metadata.ipv6),
    },
    ...families.map(
      (family): Case => ({
        from: "docker",
        what: `metadata UDP 53, ${family}`,
        expected: "imds",
        ask: () => world.tell("docker", { do: "ask", protocol: "udp", address: metadata[family], port: 53 }),
      }),
    ),
    ...lanCases(world, open),
    ...families.flatMap((family) => portCases(world, "docker", 1, family, open)),
    ...hostCases(world),
  ];
}

/** The client fails at once instead of timing out. */
function rejectedCases(world: World, by: string): readonly Case[] {
  const refused = { ipv4: "nothing (EHOSTUNREACH)", ipv6: "nothing (EACCES)" };
  return families.map((family) => ({
    from: "docker",
    what: `metadata port 8080, ${family}, refused by ${by}`,
    expected: refused[family],
    ask: () =>
      world.tell("docker", {
        do: "ask",
        protocol: "tcp",
        address: metadata[family],
        port: 8080,
        patient: true,
      }),
  }));
}

/** Waits for the rate limit of the routing code: five errors per client, then one per second. */
function refill(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 2_000));
}

const byRedirect = { proxy: 7000, credentials: 7001, metrics: 7002 } as const;

/**
 * Rules of another tool that redirect other ports to ours: not every redirected connection was for the
 * metadata service.
 */
function othersRedirects(world: World): void {
  const rules = (["proxy", "credentials", "metrics"] as const).map(
    (service) => `tcp dport ${byRedirect[service]} redirect to :${ports[service]};`,
  );
  const chain = `chain pre { type nat hook prerouting priority -99; ${rules.join(" ")} }`;
  world.exec("host", "nft", `table inet others { ${chain}; }`);
}

function translatedCases(world: World, from: string, expected: Expected): readonly Case[] {
  return families.flatMap((family) =>
    (["proxy", "credentials", "metrics"] as const).map((service) =>
      ask(
        world,
        from,
        `${service} by a redirect, ${family}`,
        expected[service],
        hostOn(1)[family],
        byRedirect[service],
      ),
    ),
  );
}

function hostUserCases(world: World): readonly Case[] {
  return families.map((family) => ({
    from: "host",
    what: `metadata port 80 as another user than root, ${family}`,
    expected: "nothing",
    ask: () =>
      world.tell("host", { do: "ask", protocol: "tcp", address: metadata[family], port: 80 }, 65_534),
  }));
}

function flushGuard(world: World): void {
  for (const [family, address] of [
    ["-4", metadata.ipv4],
    ["-6", metadata.ipv6],
  ] as const) {
    for (const priority of ["170", "169", "171"])
      world.ip("host", family, "rule", "del", "pref", priority, "to", address);
  }
}
