import { createHash } from "node:crypto";
import type { BundledPackage } from "./packages.ts";

export type Contents = {
  readonly name: string;
  readonly version: string;
  /** Seconds since the epoch: the time of the commit, so that two builds of it have the same SBOM. */
  readonly epoch: number;
  readonly packages: readonly BundledPackage[];
  /** The npm package that contains Node. */
  readonly node: BundledPackage;
  /** The components of Node: its process.versions. */
  readonly nodeParts: Readonly<Record<string, string | undefined>>;
};

/** A CycloneDX 1.6 document (ECMA-424) of the executable and notify.node. */
export function cyclonedx(contents: Contents): object {
  const { name, version, packages, node } = contents;
  const self = `pkg:generic/${name}@${version}`;
  const components = [
    ...packages.map(npmComponent),
    {
      ...npmComponent(node),
      description: "The Node.js runtime, stripped of its symbols.",
      components: nodeComponents(contents.nodeParts),
    },
  ];
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${uuidOf(JSON.stringify([name, version, components]))}`,
    version: 1,
    metadata: {
      timestamp: new Date(contents.epoch * 1000).toISOString(),
      component: {
        type: "application",
        "bom-ref": self,
        name,
        version,
        licenses: [{ license: { id: "MIT" } }],
        purl: self,
      },
    },
    components,
    dependencies: [{ ref: self, dependsOn: components.map((component) => component["bom-ref"]) }],
  };
}

function npmComponent(of: BundledPackage) {
  const purl = `pkg:npm/${of.name.replace("@", "%40")}@${of.version}`;
  return {
    type: "library",
    "bom-ref": purl,
    name: of.name,
    version: of.version,
    licenses: [/[ ()]/.test(of.licence) ? { expression: of.licence } : { license: { id: of.licence } }],
    purl,
    ...(of.sha512 === "" ? {} : { hashes: [{ alg: "SHA-512", content: of.sha512 }] }),
  };
}

/** ABI numbers, data versions and parts that are not compiled in are not components. */
const noComponent = new Set(["node", "modules", "napi", "unicode", "cldr", "tz"]);

function nodeComponents(parts: Contents["nodeParts"]) {
  return Object.entries(parts)
    .filter(([name, version]) => !noComponent.has(name) && version !== undefined && version !== "")
    .map(([name, version]) => ({
      type: "library",
      "bom-ref": `node/${name}@${version}`,
      name,
      version,
    }));
}

/** A UUID (RFC 9562, version 8) derived from the contents. */
function uuidOf(text: string): string {
  const digits = createHash("sha256").update(text).digest("hex");
  return [
    digits.slice(0, 8),
    digits.slice(8, 12),
    `8${digits.slice(13, 16)}`,
    `8${digits.slice(17, 20)}`,
    digits.slice(20, 32),
  ].join("-");
}
