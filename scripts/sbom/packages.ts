import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Metafile } from "esbuild";

/** An npm package with code in the executable. */
export type BundledPackage = {
  readonly name: string;
  readonly version: string;
  /** SPDX expression, as in its package.json. */
  readonly licence: string;
  /** The text of its licence file; empty if it has none. */
  readonly licenceText: string;
  /** SHA-512 of the archive that npm installed, in hexadecimal. */
  readonly sha512: string;
};

type Lock = { readonly packages: Readonly<Record<string, { readonly integrity?: string }>> };

/** The package folder of a path, such as `node_modules/a/node_modules/@b/c`. */
const packageFolder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/;

/**
 * The packages with code in the bundle, by name. A package whose code was dropped entirely is not in the
 * executable.
 */
export function bundledPackages(root: string, metafile: Metafile): readonly BundledPackage[] {
  const folders = new Set(
    Object.values(metafile.outputs).flatMap(({ inputs }) =>
      Object.entries(inputs)
        .filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && packageFolder.test(path))
        .map(([path]) => packageFolder.exec(path)?.[0].replace(/^.*?node_modules/, "node_modules") ?? ""),
    ),
  );
  return [...folders].map((folder) => readPackage(root, folder)).sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function readPackage(root: string, folder: string): BundledPackage {
  const { name, version, license } = readJson(`${root}/${folder}/package.json`) as {
    name: string;
    version: string;
    license: string;
  }; // npm refuses to publish without name and version
  if (typeof license !== "string")
    throw new Error(`listing the packages of the executable: ${name} declares no licence`);
  const lock = readJson(`${root}/package-lock.json`) as Lock; // npm's own file
  const integrity = lock.packages[folder]?.integrity ?? "";
  return {
    name,
    version,
    licence: license,
    licenceText: licenceText(`${root}/${folder}`),
    sha512: Buffer.from(integrity.replace(/^sha512-/, ""), "base64").toString("hex"),
  };
}

function licenceText(folder: string): string {
  const file = existsSync(folder)
    ? readdirSync(folder).find((name) => /^(licen[cs]e|copying)(\.(md|txt|mit))?$/i.test(name))
    : undefined;
  return file === undefined ? "" : readFileSync(`${folder}/${file}`, "utf8").trim();
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}
