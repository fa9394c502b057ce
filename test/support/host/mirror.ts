import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** A Debian archive, and the keys that sign it. */
export type Mirror = {
  readonly uri: string;
  /** Path of a key file. */
  readonly keyring: string;
};

const defaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * EC2METAPROXY_TESTHOST_MIRROR, or else the first Debian archive in this machine's apt sources.
 * @throws if there is none, as on another distribution
 */
export async function debianMirror(environment: NodeJS.ProcessEnv = process.env): Promise<Mirror> {
  const configured = environment.EC2METAPROXY_TESTHOST_MIRROR;
  if (configured !== undefined && configured !== "") return { uri: configured, keyring: defaultKeyring };
  for (const text of await sourceFiles()) {
    const found = text.includes("URIs:") ? firstOfDeb822(text) : firstOfList(text);
    if (found !== undefined) return { ...found, uri: await resolveMirrorFile(found.uri) };
  }
  throw new Error(
    "reading /etc/apt: no source of Debian's main component. Set EC2METAPROXY_TESTHOST_MIRROR to a Debian mirror's URL.",
  );
}

async function sourceFiles(): Promise<readonly string[]> {
  const directory = "/etc/apt/sources.list.d";
  const names = await readdir(directory).catch(() => []);
  const paths = ["/etc/apt/sources.list"];
  for (const name of names.sort()) {
    if (name.endsWith(".sources") || name.endsWith(".list")) paths.push(join(directory, name));
  }
  return await Promise.all(paths.map((path) => readFile(path, "utf8").catch(() => "")));
}

/** The deb822 format of sources.list(5): one field per line, an empty line between stanzas. */
function firstOfDeb822(text: string): Mirror | undefined {
  for (const stanza of text.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    for (const line of stanza.split("\n")) {
      const [, key, value] = /^([A-Za-z-]+):\s*(.*)$/.exec(line) ?? [];
      if (key !== undefined && value !== undefined) fields.set(key.toLowerCase(), value.trim());
    }
    const uri = fields.get("uris")?.split(/\s+/)[0];
    const suites = fields.get("suites")?.split(/\s+/) ?? [];
    if (uri === undefined || fields.get("enabled") === "no") continue;
    if (!suites.some(isRelease) || !(fields.get("components") ?? "").split(/\s+/).includes("main")) continue;
    const signedBy = fields.get("signed-by");
    return { uri, keyring: signedBy?.startsWith("/") === true ? signedBy : defaultKeyring };
  }
  return undefined;
}

/** The one-line format of sources.list(5): `deb [signed-by=FILE] URI SUITE COMPONENT...`. */
function firstOfList(text: string): Mirror | undefined {
  for (const line of text.split("\n")) {
    const [, options = "", uri, suite, components = ""] =
      /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line.trim()) ?? [];
    if (uri === undefined || suite === undefined || !isRelease(suite)) continue;
    if (!components.split(/\s+/).includes("main")) continue;
    return { uri, keyring: /signed-by=(\/\S+)/.exec(options)?.[1] ?? defaultKeyring };
  }
  return undefined;
}

/** A Debian release: neither its updates nor another vendor's repository with a suite of that name. */
function isRelease(suite: string): boolean {
  return ["bookworm", "trixie", "forky", "stable", "testing", "unstable", "sid"].includes(suite);
}

/** Debian's cloud images use `mirror+file:PATH`, a file with one URL per line. debootstrap needs the URL. */
async function resolveMirrorFile(uri: string): Promise<string> {
  const [, path] = /^mirror\+file:(?:\/\/)?(\/\S+)$/.exec(uri) ?? [];
  if (path === undefined) return uri;
  const [first] = (await readFile(path, "utf8")).split(/\s+/);
  return first === undefined || first === "" ? uri : first;
}
