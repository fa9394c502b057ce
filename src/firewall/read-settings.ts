import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Problem } from "../errors.ts";
import type { SettingsFile } from "./settings.ts";

/** The settings files in the order in which they apply, and those that could not be read. */
export type SettingsFiles = {
  readonly files: readonly SettingsFile[];
  readonly problems: readonly Problem[];
};

/**
 * Reads firewall.conf, then firewall.d/*.conf in the order of their names. Files that do not exist are
 * skipped.
 */
export async function readSettingsFiles(directory: string): Promise<SettingsFiles> {
  const files: SettingsFile[] = [];
  const problems: Problem[] = [];
  const dropIns = join(directory, "firewall.d");
  const names = await readdir(dropIns).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") problems.push(unreadable(dropIns, error));
    return [];
  });
  // By code unit, not by locale, so that the order is the same on every host.
  const confs = names.filter((name) => name.endsWith(".conf") && !name.startsWith(".")).sort();
  for (const path of [join(directory, "firewall.conf"), ...confs.map((name) => join(dropIns, name))]) {
    try {
      files.push({ path, text: await readFile(path, "utf8") });
    } catch (error) {
      const failure = error as NodeJS.ErrnoException; // node:fs rejects with errno exceptions only
      const optional = path === join(directory, "firewall.conf");
      if (!(optional && failure.code === "ENOENT")) problems.push(unreadable(path, failure));
    }
  }
  return { files, problems };
}

function unreadable(path: string, error: NodeJS.ErrnoException): Problem {
  const hint = error.code === "EACCES" ? "Run as root, or let this user read it." : "";
  return { where: path, message: `cannot be read: ${error.code ?? error.message}`, hint };
}
