import { readFileSync } from "node:fs";
import t from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import { parseHostPort } from "../../../src/config/values.ts";
import { exitCodes } from "../../../src/errors.ts";

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

t.test("the socket's port is that of a configuration that says nothing", async (t) => {
  const { listen } = configSchema.parse({});
  t.same(values("ListenStream", "ec2metaproxy.socket"), [String(parseHostPort(listen)?.port)]);
});

t.test(
  "systemd does not restart after the exit code of a wrong configuration, and gives the socket up",
  async (t) => {
    t.same(values("RestartPreventExitStatus", "ec2metaproxy.service"), [String(exitCodes.configuration)]);
    t.match(values("ExecStopPost", "ec2metaproxy.service")[0], `= ${exitCodes.configuration} ]`);
  },
);

t.test("enabling the service enables all the package's units that can be enabled", async (t) => {
  t.same(values("Also", "ec2metaproxy.service"), [
    "ec2metaproxy.socket ec2metaproxy-firewall.service ec2metaproxy-firewall.timer",
  ]);
  const preset = unit("80-ec2metaproxy.preset");
  for (const name of [
    "ec2metaproxy.service",
    ...(values("Also", "ec2metaproxy.service")[0] ?? "").split(" "),
  ])
    t.match(preset, `\ndisable ${name}\n`);
});

t.test("the repair of the firewall has the firewall's sandbox", async (t) => {
  t.same(sandbox("ec2metaproxy-firewall-repair.service"), sandbox("ec2metaproxy-firewall.service"));
});

for (const name of ["ec2metaproxy.service", "ec2metaproxy-firewall.service"]) {
  t.test(`the sandbox of ${name} is in alphabetical order`, async (t) => {
    const names = sandbox(name).map((line) => line.slice(0, line.indexOf("=")));
    t.ok(names.length > 15);
    t.same(names, names.toSorted());
  });
}

t.test("the firewall's rules stay when its unit is stopped", async (t) => {
  for (const directive of ["ExecStop", "ExecStopPost"])
    t.same(values(directive, "ec2metaproxy-firewall.service"), []);
});

t.test("nothing hides other users' processes: their sockets prove who is asking", async (t) => {
  t.same(values("ProtectProc", "ec2metaproxy.service"), []);
});
