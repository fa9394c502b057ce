import { join } from "node:path";
import t from "tap";
import { readSettingsFiles } from "../../../src/firewall/read-settings.ts";

t.test("firewall.conf comes first, then firewall.d in the order of names", async (t) => {
  const directory = t.testdir({
    "firewall.conf": "A",
    "firewall.d": {
      "90-z.conf": "D",
      "10-a.conf": "B",
      "9-b.conf": "C",
      "10-a.conf.rpmnew": "no",
      ".x.conf": "no",
      README: "no",
    },
  });
  const { files, problems } = await readSettingsFiles(directory);
  t.strictSame(
    files.map(({ text }) => text),
    ["A", "B", "C", "D"],
  );
  t.strictSame(problems, []);
});

t.test("a missing directory means no settings and is not a problem", async (t) => {
  t.strictSame(await readSettingsFiles(join(t.testdir({}), "none")), { files: [], problems: [] });
});

t.test("a file that cannot be read is a problem", async (t) => {
  const directory = t.testdir({
    "firewall.conf": {},
    "firewall.d": { "a.conf": t.fixture("symlink", "gone") },
  });
  const { problems } = await readSettingsFiles(directory);
  t.strictSame(
    problems.map(({ where, message }) => [where, message]),
    [
      [join(directory, "firewall.conf"), "cannot be read: EISDIR"],
      [join(directory, "firewall.d", "a.conf"), "cannot be read: ENOENT"],
    ],
  );
});
