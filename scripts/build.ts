import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { type BuildInfo, bundle } from "./build/bundle.ts";
import { nodePackage } from "./build/node-package.ts";
import { buildNotifyAddon } from "./build/notify-addon.ts";
import { run } from "./build/run.ts";
import { makeExecutable } from "./build/single-executable.ts";
import { outputFolder, target } from "./build/target.ts";

// Builds dist/ec2metaproxy and dist/notify.node; with ARCH=arm64, dist/arm64/ec2metaproxy and
// dist/arm64/notify.node. The same commit produces the same bytes (`scripts/check-reproducible`). DIST and
// ENTRY are for that check and for experiments.

const root = dirname(import.meta.dirname);
const dist = process.env.DIST ?? `${root}/dist`;
const entry = process.env.ENTRY ?? `${root}/src/main.ts`;
const of = target(process.env.ARCH);
const out = outputFolder(dist, of);
const work = `${dist}/.build/${of.arch}`;
mkdirSync(work, { recursive: true });
mkdirSync(out, { recursive: true });

const node = nodePackage(root, `${dist}/.build`, of);
if (process.version !== `v${node.version}`) {
  throw new Error(
    `building: this is Node ${process.version}, package-lock.json says v${node.version}; run scripts/setup, then make build`,
  );
}

const metafile = await bundle(root, entry, `${work}/main.cjs`, buildInfo());
writeFileSync(`${work}/metafile.json`, JSON.stringify(metafile));
const cache = makeExecutable(root, work, node, of, `${out}/ec2metaproxy`);
buildNotifyAddon(root, `${work}/sd-notify`, node, of, `${out}/notify.node`);

for (const file of ["ec2metaproxy", "notify.node"]) {
  const size = (statSync(`${out}/${file}`).size / 1e6).toFixed(1);
  process.stdout.write(`${out}/${file}  ${size} MB${file === "ec2metaproxy" ? `, ${cache}` : ""}\n`);
}

function buildInfo(): BuildInfo {
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { version: string }; // our own file
  const git = (...args: string[]): string => run("git", ["-C", root, ...args]).trim();
  try {
    const dirty = git("status", "--porcelain") === "" ? "" : "-dirty";
    const epoch = process.env.SOURCE_DATE_EPOCH ?? git("log", "-1", "--format=%ct");
    return { version, commit: `${git("rev-parse", "--short=12", "HEAD")}${dirty}`, date: isoDate(epoch) };
  } catch {
    // An unpacked archive, or a repository without commits.
    return { version, commit: "unknown", date: isoDate(process.env.SOURCE_DATE_EPOCH ?? "0") };
  }
}

/** Formats seconds since the epoch as `2026-01-31`. */
function isoDate(epoch: string): string {
  return new Date(Number(epoch) * 1000).toISOString().slice(0, 10);
}
