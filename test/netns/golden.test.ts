import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { configurations, goldenDirectory } from "../unit/firewall/configurations.ts";
import { unable } from "./requirements.ts";
import { World } from "./world.ts";

const skip = unable(process.env) ?? false;
const golden = (name: string) => readFileSync(join(goldenDirectory, name), "utf8");

t.test("nft -c accepts the rules of every configuration", { skip, timeout: 120_000 }, async (t) => {
  await using world = await World.make();
  const run = world.hostRun((command) => command);
  for (const { name } of configurations) {
    t.match(
      await run("nft", ["-c", "-f", "-"], golden(`${name}.nftables`)),
      { exitCode: 0, stderr: "" },
      name,
    );
  }
});

for (const variant of ["nft", "legacy"]) {
  t.test(
    `iptables-${variant}-restore --test accepts the rules of every configuration`,
    { skip, timeout: 120_000 },
    async (t) => {
      await using world = await World.make();
      const run = world.hostRun((command) => command);
      for (const { name } of configurations) {
        for (const part of golden(`${name}.iptables`).split(/^# /m).slice(1)) {
          const [command = "", ...lines] = part.split("\n");
          const [program = "", ...options] = command.replace(/^(ip6?tables)/, `$1-${variant}`).split(" ");
          const outcome = await run(program, [...options, "--test"], lines.join("\n"));
          t.match(outcome, { exitCode: 0 }, `${name}: ${program}`);
        }
      }
    },
  );
}
