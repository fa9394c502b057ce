import { join } from "node:path";
import t from "tap";
import { readServices } from "../../../src/commands/services.ts";
import { readEnvironment } from "../../../src/config/load.ts";
import type { Outcome, Run } from "../../../src/firewall/command.ts";

const own = readEnvironment({ AWS_REGION: "shell", RUNTIME_DIRECTORY: "/run/mine" });
const says =
  (outcome: Outcome): Run =>
  async () =>
    outcome;
const shows = (stdout: string) => says({ kind: "ran", exitCode: 0, stdout, stderr: "" });
const unit = (more: string) => `Id=ec2metaproxy.service\nLoadState=loaded\n${more}\n`;

t.test(
  "the variables are the service's: its own, then those of its files, and not this shell's",
  async (t) => {
    const file = join(
      t.testdir({ environment: 'HTTPS_PROXY="http://p:3128"\nAWS_REGION=file\n' }),
      "environment",
    );
    const run = shows(
      unit(`Environment=AWS_REGION=unit DOCKER_HOST=tcp://e:1\nEnvironmentFiles=${file} (ignore_errors=yes)`),
    );
    const { environment, environmentOf, unreadable } = await readServices(own, run);
    t.equal(environmentOf, "service");
    t.match(environment, {
      awsRegion: "file",
      dockerHost: "tcp://e:1",
      proxy: { HTTPS_PROXY: "http://p:3128" },
      runtimeDirectory: "/run/mine",
    });
    t.same(unreadable, []);
  },
);

t.test("a file that may be missing is no problem, and one that cannot be read is named", async (t) => {
  const missing = await readServices(own, shows(unit("EnvironmentFiles=/nonexistent (ignore_errors=yes)")));
  t.same(
    [missing.unreadable, missing.environment.awsRegion, missing.environmentOf],
    [[], undefined, "service"],
  );
  const directory = t.testdir({});
  const shut = await readServices(own, shows(unit(`EnvironmentFiles=${directory} (ignore_errors=yes)`)));
  t.match(shut.unreadable, [/EISDIR/]);
  t.same(
    [shut.environment.awsRegion, shut.environmentOf],
    ["shell", "this process"],
    "then this shell's variables are used",
  );
});

t.test("without the unit, or without systemd, the variables are this shell's", async (t) => {
  const absent = await readServices(own, shows("Id=ec2metaproxy.service\nLoadState=not-found\n"));
  t.same([absent.units, absent.unknownBecause, absent.environment], [[], undefined, own]);
  const none = await readServices(own, says({ kind: "missing" }));
  t.same([none.units, none.environment], [[], own]);
  t.match(none.unknownBecause, "systemctl: command not found");
});
