import { readFile, rename, writeFile } from "node:fs/promises";
import { explain } from "../errors.ts";
import { isInterfaceName, matchesInterface } from "./interface-name.ts";
import type { Settings } from "./settings.ts";

/**
 * Bridges whose names their engines were told (`com.docker.network.bridge.name`), such as `shop0`. No pattern
 * in INTERFACES can know them. The guard keeps them in a file, so that `firewall apply` covers them at boot,
 * before any engine runs.
 */
export const engineBridgesFile = "/var/lib/ec2metaproxy-guard/bridges.json";

/** The names by engine: its host, as in the configuration. */
type Bridges = ReadonlyMap<string, readonly string[]>;

type Read =
  | { readonly ok: true; readonly bridges: Bridges }
  /** The file is there and cannot be used. */
  | { readonly ok: false; readonly error: string };

async function read(path: string): Promise<Read> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return isMissing ? { ok: true, bridges: new Map() } : { ok: false, error: explain(error) };
  }
  try {
    return { ok: true, bridges: parseBridges(JSON.parse(text)) };
  } catch (error) {
    return { ok: false, error: explain(error) };
  }
}

/** @throws if it is not an object of lists. Names that cannot be an interface's are left out. */
function parseBridges(value: unknown): Bridges {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("expected an object of lists by engine");
  return new Map(
    Object.entries(value).map(([host, names]: readonly [string, unknown]) => {
      if (!Array.isArray(names)) throw new Error("expected a list of names for each engine");
      return [host, validNames(names as readonly unknown[])];
    }),
  );
}

function validNames(names: readonly unknown[]): readonly string[] {
  const valid = names.filter((name) => typeof name === "string").filter(isInterfaceName);
  return [...new Set(valid)].toSorted();
}

function namesIn(bridges: Bridges): readonly string[] {
  return [...new Set([...bridges.values()].flat())].toSorted();
}

/**
 * The names in the file, and why it could not be used. Without them their containers are refused, which the
 * guard ends when it writes the file again.
 */
export async function readEngineBridges(
  path: string,
): Promise<{ readonly names: readonly string[]; readonly error: string | undefined }> {
  const found = await read(path);
  return found.ok ? { names: namesIn(found.bridges), error: undefined } : { names: [], error: found.error };
}

/** The settings with these bridges in addition to INTERFACES. */
export function withEngineBridges(settings: Settings, names: readonly string[]): Settings {
  const more = names.filter(
    (name) =>
      isInterfaceName(name) && !settings.interfaces.some((pattern) => matchesInterface(pattern, name)),
  );
  return more.length === 0 ? settings : { ...settings, interfaces: [...settings.interfaces, ...more] };
}

/** The bridges that the followed engines name, in memory and in the file. */
export class EngineBridges {
  readonly #path: string | undefined;
  /** Settles with the last write; the next one waits for it. */
  #written: Promise<void> = Promise.resolve();
  #bridges: Bridges;

  private constructor(path: string | undefined, bridges: Bridges) {
    this.#path = path;
    this.#bridges = bridges;
  }

  /**
   * Begins with what the file has for these engines, which may not answer yet.
   * @param path undefined to keep nothing
   */
  static async open(
    path: string | undefined,
    hosts: readonly string[],
  ): Promise<{ readonly bridges: EngineBridges; readonly error: string | undefined }> {
    const found: Read = path === undefined ? { ok: true, bridges: new Map() } : await read(path);
    const kept = found.ok ? [...found.bridges].filter(([host]) => hosts.includes(host)) : [];
    return {
      bridges: new EngineBridges(path, new Map(kept)),
      error: found.ok ? undefined : found.error,
    };
  }

  names(): readonly string[] {
    return namesIn(this.#bridges);
  }

  /**
   * Replaces the names of one engine. `names` has them at once. Resolves when the file has them.
   * @throws if the file cannot be written
   */
  async set(host: string, names: readonly string[]): Promise<void> {
    const [valid, before] = [validNames(names), this.#bridges.get(host)];
    if (before !== undefined && before.join(" ") === valid.join(" ")) return;
    this.#bridges = new Map([...this.#bridges, [host, valid]]);
    const written = this.#written.then(() => this.#write());
    this.#written = written.catch(() => undefined);
    await written;
  }

  /** A reader gets the whole former file or the whole new one. */
  async #write(): Promise<void> {
    if (this.#path === undefined) return;
    try {
      await writeFile(`${this.#path}.new`, `${JSON.stringify(Object.fromEntries(this.#bridges))}\n`);
      await rename(`${this.#path}.new`, this.#path);
    } catch (cause) {
      throw new Error(`writing ${this.#path}`, { cause });
    }
  }
}
