import type { PathCode } from "./refusals.ts";

/**
 * What a request asks for. `path` is canonical: the path that was classified is the path that is forwarded.
 */
export type Classified =
  | { readonly kind: "token"; readonly version: string }
  | { readonly kind: "role-list"; readonly extended: boolean }
  | { readonly kind: "role-credentials"; readonly extended: boolean; readonly role: string }
  | { readonly kind: "iam-info" }
  | { readonly kind: "iam-listing" }
  | { readonly kind: "metadata-root"; readonly path: string }
  | { readonly kind: "version-root"; readonly path: string }
  | { readonly kind: "version-list"; readonly path: string }
  | Metadata
  | Refused;

/** Forwarded if the policy permits `category`: a path under meta-data/, `dynamic/…` or `user-data`. */
type Metadata = { readonly kind: "metadata"; readonly path: string; readonly category: string };

/** The canonical path of a request; undefined if it has none. The query is no part of it. */
export function canonicalOf(asked: Classified): string | undefined {
  const listPath = "/latest/meta-data/iam/security-credentials";
  switch (asked.kind) {
    case "token":
      return `/${asked.version}/api/token`;
    case "role-list":
      return `${listPath}${asked.extended ? "-extended" : ""}/`;
    case "role-credentials":
      return `${listPath}${asked.extended ? "-extended" : ""}/${asked.role}`;
    case "iam-info":
      return "/latest/meta-data/iam/info";
    case "iam-listing":
      return "/latest/meta-data/iam/";
    case "refused":
      return undefined;
    default:
      return asked.path;
  }
}

export type Refused = {
  readonly kind: "refused";
  readonly code: PathCode;
  readonly reason: string;
};

/** Longer than any path of the service: a tag key has at most 128 characters, a role name 64. */
const maxPathLength = 1024;

/**
 * Characters that paths of the service contain unencoded, including MAC addresses, tag keys and role names.
 * No `%`, `;`, `\` or space.
 */
const plainPath = /^\/[\w.:+=,@/-]*$/;
/**
 * Characters that may be percent-encoded: the same without the slash. Some clients write `%3A` in a MAC
 * address or `%40` in a role name.
 */
const plainOctet = /^[\w.:+=,@-]$/;

const version = /^(?:latest|1\.0|\d{4}-\d{2}-\d{2})$/;
const roleName = /^[\w+=,.@-]{1,64}$/;

/**
 * Classifies a request by its method and its request target as received. Pure, and the only reader of that
 * target. What no client sends is refused rather than repaired, because the service behind the proxy might
 * repair it differently. What clients do send and the service accepts is repaired: a double slash
 * (`macs/$MAC/vpc-id` where MAC ends in one), a trailing slash, a percent-encoded character, a query
 * (dropped).
 */
export function classify(method: string, rawPath: string): Classified {
  const canonical = canonicalPath(rawPath);
  if (typeof canonical !== "string") return canonical;
  const ending = canonical.length > 1 && canonical.endsWith("/") ? "/" : "";
  const segments = canonical.slice(1, canonical.length - ending.length).split("/");
  const [first = "", tree = "", ...below] = segments;
  const isToken = tree === "api" && below.length === 1 && below[0] === "token" && version.test(first);

  if (method === "PUT" && isToken) {
    if (first === "latest") return { kind: "token", version: first };
    return refused("token-version", `tokens are issued only at /latest/api/token, not under /${first}`);
  }
  if (method !== "GET" && method !== "HEAD")
    return isToken
      ? refused("token-method", "a token is requested with PUT")
      : refused("method-not-allowed", "only GET and HEAD are supported here");
  if (isToken) return refused("token-method", "a token is requested with PUT");

  if (first === "") return { kind: "version-list", path: "/" };
  if (!version.test(first))
    return refused("unknown-version", "the path does not begin with latest, 1.0 or a dated version");
  switch (tree) {
    case "":
      return { kind: "version-root", path: canonical };
    case "meta-data":
      return below.length === 0
        ? { kind: "metadata-root", path: `/${first}/meta-data/` }
        : belowMetadata(canonical, below);
    case "dynamic":
      return forwarded(canonical, [tree, ...below]);
    case "user-data":
      if (below.length === 0) return forwarded(canonical, [tree]);
  }
  return refused("unknown-tree", "the service has only meta-data, dynamic and user-data");
}

/** The one form in which a path is classified and forwarded, or the refusal if it has none. */
function canonicalPath(rawPath: string): string | Refused {
  if (rawPath.length > maxPathLength)
    return refused("path-too-long", `the path is longer than ${maxPathLength} characters`);
  if (!rawPath.startsWith("/"))
    return refused(
      "not-origin-form",
      "the request target is not a path: absolute forms and CONNECT are for proxies",
    );
  const query = rawPath.indexOf("?");
  let path = query === -1 ? rawPath : rawPath.slice(0, query);
  if (path.includes("%")) {
    const decoded = decodeOnce(path);
    if (decoded === undefined)
      return refused("path-encoding", "the path has a percent-encoded character that no metadata path has");
    path = decoded;
  }
  if (!plainPath.test(path))
    return refused("path-characters", "the path has a character that no metadata path has");
  if (path.includes("//")) path = path.replace(/\/{2,}/g, "/");
  // Some file systems take three dots or more for a parent directory; the service has no such name.
  if (path.includes("/.") && /\/\.+(?:\/|$)/.test(path))
    return refused("dot-segment", "the path has a segment of dots");
  return path;
}

/**
 * Undefined if anything other than a character of metadata paths is encoded: a slash, a percent sign, a NUL,
 * UTF-8.
 */
function decodeOnce(path: string): string | undefined {
  let isBad = false;
  const decoded = path.replace(/%(.{0,2})/gs, (whole, digits: string) => {
    const octet = /^[0-9A-Fa-f]{2}$/.test(digits) ? String.fromCharCode(Number.parseInt(digits, 16)) : "";
    if (!plainOctet.test(octet)) isBad = true;
    return isBad ? whole : octet;
  });
  return isBad ? undefined : decoded;
}

function belowMetadata(canonical: string, below: readonly string[]): Classified {
  const [category = "", leaf, role, ...rest] = below;
  if (category !== "iam") {
    // `meta-data/dynamic/…` does not exist. If it were forwarded, the policy would take it for the real
    // `dynamic/…`.
    if (category === "dynamic" || category === "user-data" || category === "meta-data")
      return refused("unknown-tree", `${category} is not part of meta-data`);
    return forwarded(canonical, below);
  }
  if (leaf === undefined) return { kind: "iam-listing" };
  if (leaf === "info" && role === undefined) return { kind: "iam-info" };
  if (leaf === "security-credentials" || leaf === "security-credentials-extended") {
    const extended = leaf === "security-credentials-extended";
    if (role === undefined) return { kind: "role-list", extended };
    if (rest.length === 0 && roleName.test(role)) return { kind: "role-credentials", extended, role };
  }
  return refused(
    "not-under-iam",
    "meta-data/iam has only info, security-credentials and one role under that",
  );
}

/**
 * Whether a category holds or lists credentials of the host or of ECS tasks, now or under a future name. Such
 * a category is never forwarded, whatever the policy says.
 */
export function isCredentialCategory(category: string): boolean {
  return /^iam|credential/i.test(category);
}

function forwarded(path: string, below: readonly string[]): Metadata | Refused {
  const category = below.join("/");
  const lower = category.toLowerCase();
  if (isCredentialCategory(category))
    return refused(
      "host-credentials",
      "the path holds credentials of the host or of others and is never forwarded",
    );
  // Names that a lenient service might trim to another name.
  if (!/^[a-z0-9-]+$/.test(lower.slice(0, `${lower}/`.indexOf("/"))) || /\.(?:\/|$)/.test(lower))
    return refused("unknown-category", "the service has no category of this spelling");
  // Only the keys of instance tags have capitals. A service that ignores case would take other names for
  // refused ones.
  if (category !== lower && !(below[0] === "tags" && below[1] === "instance" && below.length === 3))
    return refused("letter-case", "metadata paths are in lower case");
  return { kind: "metadata", path, category };
}

/** The path to request from the real service; undefined for what the proxy answers itself. */
export function upstreamPath(asked: Classified): string | undefined {
  switch (asked.kind) {
    case "metadata-root":
    case "version-root":
    case "version-list":
    case "metadata":
      return asked.path;
    case "token":
    case "role-list":
    case "role-credentials":
    case "iam-info":
    case "iam-listing":
    case "refused":
      return undefined;
  }
}

function refused(code: PathCode, reason: string): Refused {
  return { kind: "refused", code, reason };
}
