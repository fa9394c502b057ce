import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parse } from "../../src/cli.ts";
import { exitCodes } from "../../src/errors.ts";
import { commandNames, usage, usageOf } from "../../src/usage.ts";

const root = join(import.meta.dirname, "../..");
const page = readFileSync(join(root, "docs/man/ec2metaproxy.8"), "utf8");
const completion = readFileSync(join(root, "packaging/bash-completion"), "utf8");

/** The options that a help text names, without their dashes. */
const optionsIn = (text: string) =>
  [...text.matchAll(/--([a-z][a-z-]+)/g)].map(([, name = ""]) => name).filter((name) => name !== "help");

/** Whether the command line accepts an option for a command, with some value or none. */
function accepts(command: string, option: string): boolean {
  const operands = { explain: ["c"], firewall: ["status"] }[command] ?? [];
  return [[`--${option}`], [`--${option}`, "nftables"]].some((given) => {
    try {
      parse([command, ...operands, ...given]);
      return true;
    } catch {
      return false;
    }
  });
}

const all = optionsIn(commandNames.map(usageOf).join("\n"));

for (const command of commandNames) {
  t.test(`${command} --help names the options that it takes, and no others`, async (t) => {
    const text = usageOf(command);
    t.match(text, `Usage: ec2metaproxy `);
    t.ok(text.includes(command));
    if (command === "help") return;
    for (const option of new Set(all)) {
      // Of another command, mentioned in the description.
      if (command === "guard" && option === "guard") continue;
      // Every command takes it; these two do not need it.
      if (option === "config" && (command === "status" || command === "version")) continue;
      t.equal(optionsIn(text).includes(option), accepts(command, option), option);
    }
  });

  t.test(`${command} is in the usage, the manual page and the completion`, async (t) => {
    t.match(usage, new RegExp(`^  ec2metaproxy \\[?${command}\\b`, "m"));
    t.match(page, new RegExp(`^\\.It Cm ${command}\\b`, "m"));
    t.match(completion, new RegExp(`\\b${command}\\b`));
  });
}

t.test("each option of a help text is in the manual page", async (t) => {
  for (const option of new Set(all)) {
    const written = option.replace(/-/g, "\\\\?-");
    t.match(page, new RegExp(`Fl -${written}\\b`), option);
  }
});

t.test("no line is too long for a terminal of 120 columns, and each exit code is named", async (t) => {
  for (const text of [usage, ...commandNames.map(usageOf)]) {
    t.same(
      text.split("\n").filter((line) => line.length > 120),
      [],
    );
    for (const code of Object.values(exitCodes)) t.match(text, new RegExp(`\\b${code}\\b`));
  }
});
