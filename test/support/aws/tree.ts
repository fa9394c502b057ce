import { account, instance } from "./account.ts";
import { instanceIdentity, instanceMetadata, userData, versions } from "./metadata.ts";
import { imdsJson, isoSeconds } from "./pages.ts";
import { type Principal, uniqueId } from "./principals.ts";

export type Page = {
  readonly body: string;
  /** No container may ever see this body: it carries `leakMarker`. */
  readonly secret: boolean;
  readonly contentType: "text/plain" | "application/octet-stream";
};

/** Everything that IMDS serves below a version, files and directory listings alike, by path without slashes at the ends. */
export type Tree = {
  readonly exact: ReadonlyMap<string, Page>;
  /** The same by the path in lower case. */
  readonly folded: ReadonlyMap<string, Page>;
};

/** The keys that IMDS holds at one time. */
export type HeldCredentials = {
  /** Undefined: no instance profile is attached. */
  readonly host: Principal | undefined;
  /** The instance identity role, which every instance has. */
  readonly instance: Principal;
  /** Other ECS tasks on this instance, by `<task id>-<role type>`. */
  readonly tasks: Readonly<Record<string, Principal>>;
};

/** The tree for these credentials; made anew when they change. */
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

/** The page that a reading names, version first: `latest/meta-data/ami-id`. The empty reading is the version list. */
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

/** Each directory's entries, one a line, directories with a slash, no newline at the end. */
function listings(pages: ReadonlyMap<string, Page>): ReadonlyMap<string, string> {
  const children = new Map<string, Set<string>>();
  for (const path of pages.keys()) {
    const segments = path.split("/");
    for (const [depth, segment] of segments.entries()) {
      const parent = segments.slice(0, depth).join("/");
      const entries = children.get(parent) ?? new Set<string>();
      // The top level alone lists its directories without a slash.
      entries.add(depth < segments.length - 1 && depth > 0 ? `${segment}/` : segment);
      children.set(parent, entries);
    }
  }
  const name = (entry: string) => entry.replace(/\/$/, "");
  const byName = (a: string, b: string) => (name(a) < name(b) ? -1 : 1);
  const bodies = new Map(
    Array.from(children, ([path, entries]) => [path, [...entries].sort(byName).join("\n")]),
  );
  // The one listing that is not made of path names: number and key name.
  bodies.set("meta-data/public-keys", "0=host-key");
  return bodies;
}
