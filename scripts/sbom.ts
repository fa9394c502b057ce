import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Metafile } from "esbuild";
import { nodePackage } from "./build/node-package.ts";
import { run } from "./build/run.ts";
import { outputFolder, target } from "./build/target.ts";
import { cyclonedx } from "./sbom/cyclonedx.ts";
import { licenceList } from "./sbom/licences.ts";
import { bundledPackages, readPackage } from "./sbom/packages.ts";

// Writes sbom.cdx.json and third-party-licences.txt beside the executable, from the list of files that
// esbuild bundled (`make build`).

const root = dirname(import.meta.dirname);
const dist = process.env.DIST ?? `${root}/dist`;
const of = target(process.env.ARCH);
const out = outputFolder(dist, of);

const metafile = JSON.parse(readFileSync(`${dist}/.build/${of.arch}/metafile.json`, "utf8")) as Metafile; // esbuild wrote it
// The addon's package has no JavaScript in the bundle.
const packages = [...bundledPackages(root, metafile), readPackage(root, "node_modules/sd-notify")].sort(
  (a, b) => (a.name < b.name ? -1 : 1),
);
const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { version: string }; // our own file
const node = { ...readPackage(root, `node_modules/node-linux-${process.arch}`), ...ofTarget() };
const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? commitEpoch());

const bom = cyclonedx({ name: "ec2metaproxy", version, epoch, packages, node, nodeParts: process.versions });
writeFileSync(`${out}/sbom.cdx.json`, `${JSON.stringify(bom, undefined, 2)}\n`);
writeFileSync(`${out}/third-party-licences.txt`, licenceList([...packages, node]));
process.stdout.write(`${out}/sbom.cdx.json  ${packages.length} packages and Node ${node.version}\n`);

/** Node for another architecture has the same version, from another archive. */
function ofTarget(): { readonly name: string; readonly sha512: string } {
  const { integrity } = nodePackage(root, `${dist}/.build`, of);
  return {
    name: `node-linux-${of.arch}`,
    sha512: Buffer.from(integrity.replace(/^sha512-/, ""), "base64").toString("hex"),
  };
}

function commitEpoch(): string {
  try {
    return run("git", ["-C", root, "log", "-1", "--format=%ct"]).trim();
  } catch {
    return "0";
  }
}
