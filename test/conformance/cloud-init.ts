import { execFile } from "node:child_process";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { instance, leaksHostSecret } from "../support/aws/account.ts";
import { instanceMetadata } from "../support/aws/metadata.ts";
import type { LocalProxy } from "../support/local-proxy.ts";

/**
 * What cloud-init's EC2 data source read through the proxy. `read` and `missing` are paths below meta-data/.
 */
export type CloudInitReport = {
  readonly version: string;
  readonly api: string;
  readonly read: readonly string[];
  readonly missing: readonly string[];
  readonly userData: "empty" | "read";
  /** Sentences; empty if everything is right. */
  readonly problems: readonly string[];
};

/** The output of clients/cloud-init. */
type Crawled = {
  readonly version: string;
  readonly seconds: number;
  readonly api?: string;
  readonly metadata?: Tree;
  readonly identity?: Readonly<Record<string, unknown>>;
  readonly userData?: string;
  readonly complaints: string;
};
type Tree = { readonly [name: string]: Tree | string | readonly string[] };

const python = "/usr/bin/python3";
/**
 * A client that retries refused requests goes on for minutes. This one should meet nothing that it retries.
 */
const longestSeconds = 10;
/** Without these cloud-init would not recognise the machine as an EC2 instance. */
const needed = [
  "instance-id",
  "local-hostname",
  "mac",
  "placement/availability-zone",
  `network/interfaces/macs/${instance.mac}/vpc-id`,
];

/** Undefined if cloud-init was not unpacked into this folder. */
export async function examineCloudInit(
  folder: string,
  proxy: LocalProxy,
): Promise<CloudInitReport | undefined> {
  const root = join(folder, "cloud-init");
  for (const file of [join(root, "usr/bin/cloud-init"), python])
    if (
      !(await access(file).then(
        () => true,
        () => false,
      ))
    )
      return undefined;
  const { stdout } = await promisify(execFile)(
    python,
    [join(import.meta.dirname, "clients/cloud-init/client.py")],
    {
      env: {
        PATH: "/usr/bin:/bin",
        LANG: "C.UTF-8",
        SDK_FOLDER: root,
        AWS_EC2_METADATA_SERVICE_ENDPOINT: proxy.endpoint,
      },
      timeout: 120_000,
      maxBuffer: 1 << 24,
    },
  );
  const crawled = JSON.parse(stdout) as Crawled; // our own program wrote it
  const read = leaves(crawled.metadata ?? {});
  const missing = metadataPaths().filter((path) => !read.includes(path));
  const problems = [
    ...needed.filter((path) => !read.includes(path)).map((path) => `it did not read ${path}`),
    ...(crawled.identity?.instanceId === instance.id ? [] : ["it did not read the identity document"]),
    ...(ofOwnRole(crawled.metadata) ? [] : ["iam/info is not that of the container's role"]),
    ...(crawled.userData === "" ? [] : ["user-data is denied, but it read something"]),
    ...(crawled.seconds < longestSeconds ? [] : [`it took ${crawled.seconds.toFixed(0)} s`]),
    ...(crawled.complaints === "" ? [] : [`it complained: ${crawled.complaints.slice(0, 300)}`]),
    ...(leaksHostSecret(stdout) ? ["it read a secret of the host"] : []),
    ...(read.some((path) => path.includes("credential")) ? ["it read credentials"] : []),
  ];
  return {
    version: crawled.version,
    api: crawled.api ?? "none",
    read,
    missing,
    userData: crawled.userData === "" ? "empty" : "read",
    problems,
  };
}

function ofOwnRole(metadata: Tree | undefined): boolean {
  return /"InstanceProfileArn":"[^"]*instance-profile\/containers\/Conformance"/.test(
    JSON.stringify(metadata?.iam ?? {}),
  );
}

/**
 * The paths of the stand-in as cloud-init names them: it uses the name of a public key instead of its index.
 */
function metadataPaths(): readonly string[] {
  return Object.keys(instanceMetadata()).map((path) =>
    path.replace(/^meta-data\//, "").replace("public-keys/0/openssh-key", "public-keys/host-key"),
  );
}

function leaves(tree: Tree, above = ""): string[] {
  return Object.entries(tree).flatMap(([name, value]) =>
    typeof value === "string" || Array.isArray(value)
      ? [above + name]
      : leaves(value as Tree, `${above}${name}/`),
  );
}
