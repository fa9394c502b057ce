import { account, instance } from "./account.ts";
import { instanceIdentity, instanceMetadata, userData, versions } from "./metadata.ts";
import { imdsJson, isoSeconds } from "./pages.ts";
import { type Principal, uniqueId } from "./principals.ts";

export type Page = {
  readonly body: string;
  /** No container may see this body: it contains `leakMarker`. */
  readonly secret: boolean;
  readonly contentType: "text/plain" | "application/octet-stream";
};

/**
 * Everything that IMDS serves below a version, files and directory listings, by path without leading or
 * trailing slashes.
 */
export type Tree = {
  readonly exact: ReadonlyMap<string, Page>;
  /** The same, by path in lower case. */
  readonly folded: ReadonlyMap<string, Page>;
};

/** The keys that IMDS serves at a given time. */
export type HeldCredentials = {
  /** Undefined: no instance profile is attached. */
  readonly host: Principal | undefined;
  /** Of the instance identity role, which every instance has. */
  readonly instance: Principal;
  /** Of other ECS tasks on this instance, by `<task id>-<role type>`. */
  readonly tasks: Readonly<Record<string, Principal>>;
};

/** The tree for these credentials; rebuilt when they change. */
export function buildTree(held: HeldCredentials): Tree {
  const exact = new Map<string, Page>();
  for (const [path, body] of Object.entries({ ...instanceMetadata(), ...instanceIdentity() })) {
    exact.set(path, { body, secret: false, contentType: "text/plain" });
  }
  for (const [path, page] of Object.entries(credentialPages(held))) exact.set(path, page);
  exact.set("user-data", { body: userData, secret: true, contentType: "application/octet-stream" });
  for (const [path, body] of listings(exact))
    exact.set(path, { body, secret: false, contentType: "text/plain" });
  return { exact, folded: new Map(Array.from(exact, ([path, page]) => [path.toLowerCase(), page])) };
}

/**
 * The page of a reading such as `latest/meta-data/ami-id`, which begins with the version. The empty reading
 * is the version list.
 */
export function lookUp(tree: Tree, reading: string, generous: boolean): Page | undefined {
  if (reading === "") return { body: versions.join("\n"), secret: false, contentType: "text/plain" };
  const cut = reading.indexOf("/");
  const version = cut === -1 ? reading : reading.slice(0, cut);
  const known = versions.includes(version) || (generous && /^\d{4}-\d{2}-\d{2}$/.test(version));
  if (!known) return undefined;
  return (generous ? tree.folded : tree.exact).get(cut === -1 ? "" : reading.slice(cut + 1));
}

function credentialPages(held: HeldCredentials): Readonly<Record<string, Page>> {
  const pages: Record<string, Page> = {};
  const add = (path: string, fields: Readonly<Record<string, string>>, secret: boolean) => {
    pages[`meta-data/${path}`] = { body: imdsJson(fields), secret, contentType: "text/plain" };
  };
  if (held.host !== undefined) {
    const updated = isoSeconds(held.host.issuedAt);
    add(`iam/security-credentials/${account.hostRole}`, keys(held.host), true);
    add(
      `iam/security-credentials-extended/${account.hostRole}`,
      { ...keys(held.host), AccountId: account.id },
      true,
    );
    add(
      "iam/info",
      {
        Code: "Success",
        LastUpdated: updated,
        InstanceProfileArn: `arn:${account.partition}:iam::${account.id}:instance-profile/${account.hostProfile}`,
        InstanceProfileId: uniqueId("AIPA", account.hostProfile),
      },
      false,
    );
  }
  const identity = "identity-credentials/ec2";
  const common = { Code: "Success", LastUpdated: isoSeconds(held.instance.issuedAt) };
  add(`${identity}/info`, { ...common, AccountId: account.id }, false);
  add(`${identity}/security-credentials/ec2-instance`, keys(held.instance), true);
  add("iam-ecs-1/info", { ...common, InstanceId: instance.id }, false);
  for (const [name, task] of Object.entries(held.tasks))
    add(`iam-ecs-1/security-credentials/${name}`, keys(task), true);
  return pages;
}

function keys(principal: Principal): Readonly<Record<string, string>> {
  return {
    Code: "Success",
    LastUpdated: isoSeconds(principal.issuedAt),
    Type: "AWS-HMAC",
    AccessKeyId: principal.accessKeyId,
    SecretAccessKey: principal.secretAccessKey,
    Token: principal.sessionToken,
    Expiration: isoSeconds(principal.expiresAt),
  };
}

/** Directory listings: one entry per line, directories with a slash, no newline at the end. */
function listings(pages: ReadonlyMap<string, Page>): ReadonlyMap<string, string> {
  const children = new Map<string, Set<string>>();
  for (const path of pages.keys()) {
    const segments = path.split("/");
    for (const [depth, segment] of segments.entries()) {
      const parent = segments.slice(0, depth).join("/");
      const entries = children.get(parent) ?? new Set<string>();
      // Only the top level lists its directories without a slash.
      entries.add(depth < segments.length - 1 && depth > 0 ? `${segment}/` : segment);
      children.set(parent, entries);
    }
  }
  const name = (entry: string) => entry.replace(/\/$/, "");
  const byName = (a: string, b: string) => (name(a) < name(b) ? -1 : 1);
  const bodies = new Map(
    Array.from(children, ([path, entries]) => [path, [...entries].sort(byName).join("\n")]),
  );
  // The only listing that does not consist of path names: index and key name.
  bodies.set("meta-data/public-keys", "0=host-key");
  return bodies;
}
