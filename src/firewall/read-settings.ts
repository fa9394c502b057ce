import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Problem } from "../errors.ts";
import type { SettingsFile } from "./settings.ts";

/** The drop-in files in the order in which they count, and those that could not be read. */
export type SettingsFiles = {
  readonly files: readonly SettingsFile[];
  readonly problems: readonly Problem[];
};

/** firewall.conf, then firewall.d/*.conf in the order of their names. What does not exist is not missed. */
export async function readSettingsFiles(directory: string): Promise<SettingsFiles> {
  const files: SettingsFile[] = [];
  const problems: Problem[] = [];
  const dropIns = join(directory, "firewall.d");
  const names = await readdir(dropIns).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") problems.push(unreadable(dropIns, error));
    return [];
  });
  // By code unit, not by locale, so that every host applies them in one order.
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
