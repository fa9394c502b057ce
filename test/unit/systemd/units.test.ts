import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import { parseHostPort } from "../../../src/config/values.ts";
import { exitCodes } from "../../../src/errors.ts";
import { containersSocketName } from "../../../src/guard/publisher.ts";

/** The units agree with the program, and with one another. */
const unit = (name: string) => readFileSync(new URL(`../../../systemd/${name}`, import.meta.url), "utf8");

/**
 * Directives in their order, without comments; the last value of each name is what counts where a unit may
 * have only one.
 */
function directives(text: string): readonly (readonly [name: string, value: string])[] {
  return text
    .split("\n")
    .filter((line) => /^[A-Z]\w*=/.test(line))
    .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
}

function values(name: string, of: string): readonly string[] {
  return directives(unit(of))
    .filter(([directive]) => directive === name)
    .map(([, value]) => value);
}

/** From the first line of the sandbox to the end of [Service]. */
function sandbox(name: string): readonly string[] {
  const text = unit(name);
  const end = text.indexOf("\n[Install]");
  const lines = text.slice(text.indexOf("\n# Sandbox"), end < 0 ? undefined : end);
  return directives(lines).map(([directive, value]) => `${directive}=${value}`);
}

/** The paths that a unit binds into its file system. */
function binds(of: string): readonly string[] {
  return values("BindReadOnlyPaths", of).flatMap((paths) =>
    paths.split(" ").map((path) => path.replace(/^-/, "")),
  );
}

t.test("the socket's port is that of a configuration that says nothing", async (t) => {
  const { listen } = configSchema.parse({});
  t.same(values("ListenStream", "ec2metaproxy.socket"), [String(parseHostPort(listen)?.port)]);
});

for (const name of ["ec2metaproxy.service", "ec2metaproxy-guard.service"]) {
  t.test(`${name} is restarted forever, but not after the exit code of a wrong configuration`, async (t) => {
    t.same(values("Restart", name), ["always"]);
    t.same(values("StartLimitIntervalSec", name), ["0"]);
    t.same(values("RestartPreventExitStatus", name), [String(exitCodes.configuration)]);
  });
}

t.test("after the exit code of a wrong configuration the socket is given up", async (t) => {
  t.match(values("ExecStopPost", "ec2metaproxy.service")[0], `= ${exitCodes.configuration} ]`);
});

t.test(
  "starting or reloading the service starts a guard that has given up, and reloads one that runs",
  async (t) => {
    t.ok(values("Wants", "ec2metaproxy.service").includes("ec2metaproxy-guard.service"));
    t.match(
      values("ExecReload", "ec2metaproxy.service").at(-1),
      "reload-or-restart ec2metaproxy-guard.service",
    );
  },
);

t.test(
  "a reload signals the process before the file is checked, so that the refusal is its own",
  async (t) => {
    const [signal, check] = values("ExecReload", "ec2metaproxy.service");
    t.match(signal, "kill -HUP");
    t.match(check, "check --config-only");
  },
);

const enabled = [
  "ec2metaproxy.service",
  ...values("Also", "ec2metaproxy.service").flatMap((names) => names.split(" ")),
];

t.test("enabling the service enables all the package's units that can be enabled", async (t) => {
  const all = readdirSync(new URL("../../../systemd/", import.meta.url));
  const canBe = all.filter(
    (name) => /\.(service|socket|timer|path)$/.test(name) && values("WantedBy", name).length > 0,
  );
  t.same(enabled.toSorted(), canBe.toSorted());
});

t.test("a preset leaves each of them off", async (t) => {
  const preset = unit("80-ec2metaproxy.preset");
  for (const name of enabled) t.match(preset, `\ndisable ${name}\n`);
});

t.test("neither the proxy nor the guard is ordered before or after an engine or each other", async (t) => {
  for (const [name, other] of [
    ["ec2metaproxy.service", "guard"],
    ["ec2metaproxy-guard.service", "ec2metaproxy.service"],
  ] as const) {
    const order = [...values("After", name), ...values("Before", name)].join(" ");
    t.notMatch(order, /docker|podman|containerd/, name);
    t.notMatch(order, other, name);
  }
});

t.test("the guard is not restarted with the proxy", async (t) => {
  for (const directive of ["PartOf", "BindsTo", "Requires", "StopPropagatedFrom"])
    t.same(values(directive, "ec2metaproxy-guard.service"), [], directive);
});

t.test(
  "the proxy connects to the socket that the guard makes, in a folder that outlives the guard",
  async (t) => {
    const directory = `/run/${values("RuntimeDirectory", "ec2metaproxy-guard.service")[0]}`;
    t.match(values("ExecStart", "ec2metaproxy.service")[0], `--guard ${directory}/${containersSocketName}`);
    t.ok(binds("ec2metaproxy.service").includes(directory));
    t.same(values("RuntimeDirectoryPreserve", "ec2metaproxy-guard.service"), ["yes"]);
    t.match(
      unit("ec2metaproxy.tmpfiles.conf"),
      new RegExp(`^d +${directory} +0750 +root +ec2metaproxy$`, "m"),
    );
    t.match(values("PathChanged", "ec2metaproxy-firewall-repair.path")[0], `${directory}/`);
  },
);

t.test("the proxy's user makes the group of the guard's socket, and is in no other", async (t) => {
  const lines = unit("ec2metaproxy.sysusers.conf")
    .split("\n")
    .filter((line) => /^[a-z]/.test(line));
  t.same(
    lines.map((line) => line.split(/\s+/).slice(0, 3)),
    [["u", "ec2metaproxy", "-"]],
  );
  t.same(values("Group", "ec2metaproxy-guard.service"), values("Group", "ec2metaproxy.service"));
  t.same(values("SupplementaryGroups", "ec2metaproxy.service"), []);
});

t.test("the proxy has no capability, and the guard two", async (t) => {
  t.same(values("CapabilityBoundingSet", "ec2metaproxy.service"), [""]);
  t.same(values("CapabilityBoundingSet", "ec2metaproxy-guard.service"), ["CAP_NET_ADMIN CAP_SYS_PTRACE"]);
  for (const name of ["ec2metaproxy.service", "ec2metaproxy-guard.service"])
    t.same(values("AmbientCapabilities", name), []);
});

t.test("the proxy sees nothing of /run but the guard, notifications and resolvers", async (t) => {
  t.same(values("TemporaryFileSystem", "ec2metaproxy.service"), ["/run:ro"]);
  t.same(
    binds("ec2metaproxy.service").filter((path) => path.startsWith("/run/")),
    [
      "/run/ec2metaproxy-guard",
      "/run/systemd/notify",
      "/run/NetworkManager",
      "/run/netconfig",
      "/run/nscd",
      "/run/resolvconf",
      "/run/systemd/resolve",
    ],
  );
  t.same(values("BindPaths", "ec2metaproxy.service"), ["/run/ec2metaproxy"], "its own, to write to");
});

t.test("every call of systemctl leaves the /run that is hidden from the proxy", async (t) => {
  const calls = ["ExecStartPost", "ExecReload", "ExecStopPost"]
    .flatMap((directive) => values(directive, "ec2metaproxy.service"))
    .filter((line) => line.includes("systemctl"));
  t.equal(calls.length, 4);
  for (const call of calls) t.match(call, /^-?\+\/usr\/bin\/nsenter --target 1 --mount (sh|systemctl) /);
});

t.test("the guard has no network", async (t) => {
  t.same(values("RestrictAddressFamilies", "ec2metaproxy-guard.service"), ["AF_NETLINK AF_UNIX"]);
  t.same(values("IPAddressDeny", "ec2metaproxy-guard.service"), ["any"]);
});

t.test("the guard does not get the AWS keys that the proxy gets", async (t) => {
  t.same(values("UnsetEnvironment", "ec2metaproxy-guard.service"), [
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN",
  ]);
});

t.test("the sandboxes of proxy and guard differ in what is explained, and in nothing else", async (t) => {
  const [proxy, guard] = [sandbox("ec2metaproxy.service"), sandbox("ec2metaproxy-guard.service")];
  const explained =
    /^(BindPaths|BindReadOnlyPaths|CapabilityBoundingSet|InaccessiblePaths|IPAddressAllow|IPAddressDeny|ReadOnlyPaths|RestrictAddressFamilies|TemporaryFileSystem)=/;
  t.same(
    proxy.filter((line) => !explained.test(line)),
    guard.filter((line) => !explained.test(line)),
  );
});

t.test("the example for engines at tcp:// adds to the guard's sandbox, and replaces nothing", async (t) => {
  const example = readFileSync(
    new URL("../../../packaging/examples/guard-tcp-engine.conf", import.meta.url),
    "utf8",
  );
  t.same(
    directives(example).map(([directive]) => directive),
    ["RestrictAddressFamilies", "IPAddressAllow"],
  );
});

t.test(
  "repairs that the guard asks for never reach a start limit, which would end them for good",
  async (t) => {
    t.same(values("Unit", "ec2metaproxy-firewall-repair.path"), ["ec2metaproxy-firewall-repair.service"]);
    t.same(values("StartLimitIntervalSec", "ec2metaproxy-firewall-repair.service"), ["0"]);
  },
);

t.test("the repair of the firewall has the firewall's sandbox", async (t) => {
  t.same(sandbox("ec2metaproxy-firewall-repair.service"), sandbox("ec2metaproxy-firewall.service"));
});

for (const name of ["ec2metaproxy.service", "ec2metaproxy-guard.service", "ec2metaproxy-firewall.service"]) {
  t.test(`the sandbox of ${name} is in alphabetical order`, async (t) => {
    const text = unit(name);
    // A second part, after a blank line, is about files.
    const parts = text.slice(text.indexOf("\n# Sandbox"), text.indexOf("\n[Install]")).split("\n\n");
    for (const part of parts) {
      const names = directives(part).map(([directive]) => directive);
      t.same(names, names.toSorted());
    }
    t.ok(sandbox(name).length > 15);
  });
}

t.test("the firewall's rules stay when its unit is stopped", async (t) => {
  for (const directive of ["ExecStop", "ExecStopPost"])
    t.same(values(directive, "ec2metaproxy-firewall.service"), []);
});

t.test("nothing hides other users' processes: their sockets prove who is asking", async (t) => {
  t.same(values("ProtectProc", "ec2metaproxy.service"), []);
  t.same(values("ProtectProc", "ec2metaproxy-guard.service"), []);
});
