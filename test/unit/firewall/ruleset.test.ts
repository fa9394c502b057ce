import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import type { Run } from "../../../src/firewall/command.ts";
import { iptables } from "../../../src/firewall/iptables.ts";
import { nftables } from "../../../src/firewall/nftables.ts";
import { configurations, goldenDirectory, rulesOf } from "./configurations.ts";

const noCommands: Run = (command) => Promise.reject(new Error(`rendering runs ${command}`));
const backends = [nftables(noCommands), iptables(noCommands, () => Promise.resolve(true))];

for (const { name, text, uids, ports } of configurations) {
  for (const backend of backends) {
    t.test(`the ${backend.name} rules of ${name} match the golden file`, (t) => {
      const file = join(goldenDirectory, `${name}.${backend.name}`);
      const rendered = backend.render(rulesOf(text, uids, ports));
      if (process.env.UPDATE_GOLDEN === "1") writeFileSync(file, rendered);
      t.equal(rendered, readFileSync(file, "utf8"), "UPDATE_GOLDEN=1 writes what is rendered now");
      t.end();
    });
  }
}

t.test("every golden file belongs to a configuration", (t) => {
  const expected = configurations.flatMap(({ name }) => [`${name}.iptables`, `${name}.nftables`]).sort();
  t.strictSame(readdirSync(goldenDirectory).sort(), expected);
  t.end();
});
