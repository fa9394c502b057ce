import type { Test } from "tap";
import { type BootOptions, TestHost } from "./host.ts";

/**
 * Boots a host for one test and removes it when the test ends. If the test failed, the end of the host's
 * journal is printed. Check `canBoot` first.
 */
export async function bootFor(t: Test, options: BootOptions): Promise<TestHost> {
  const host = await TestHost.boot({ log: (text) => t.comment(text), ...options });
  t.teardown(async () => {
    try {
      if (!t.passing()) await showJournal(host);
    } finally {
      await host[Symbol.asyncDispose]();
    }
  });
  return host;
}

/** On standard error: when a test is known to have failed, its own output is closed already. */
async function showJournal(host: TestHost): Promise<void> {
  const journal = await host.journal(undefined, 200).catch((error: unknown) => String(error));
  const lines = journal.trimEnd().split("\n");
  process.stderr.write(
    `# the last ${lines.length} lines of the journal of ${host.name}:\n${lines.map((line) => `#   ${line}\n`).join("")}`,
  );
}
