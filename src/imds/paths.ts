export type RefusalCode =
  | "method-not-allowed"
  | "token-method"
  | "token-version"
  | "not-origin-form"
  | "path-too-long"
  | "path-characters"
  | "path-encoding"
  | "dot-segment"
  | "letter-case"
  | "unknown-version"
  | "unknown-tree"
  | "unknown-category"
  | "not-under-iam"
  | "host-credentials";

/** What a request asks for. `path` is canonical: it is what was judged, and it is what goes to the real service. */
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

/** Something that is forwarded if the policy permits `category`: a path below meta-data/, `dynamic/…` or `user-data`. */
type Metadata = { readonly kind: "metadata"; readonly path: string; readonly category: string };

export type Refused = {
  readonly kind: "refused";
  readonly status: 400 | 403 | 404 | 405;
  readonly code: RefusalCode;
  readonly reason: string;
};

/** Longer than any path of the service: a tag's key has at most 128 characters, a role's name 64. */
const longestPath = 1024;

/** What stands in paths of the service unencoded, MAC addresses, tag keys and role names included. No `%`, `;`, `\`, no blank. */
const plainPath = /^\/[\w.:+=,@/-]*$/;
/** The same characters percent-encoded, without the slash: some clients write `%3A` in a MAC address or `%40` in a role's name. */
const plainOctet = /^[\w.:+=,@-]$/;

const version = /^(?:latest|1\.0|\d{4}-\d{2}-\d{2})$/;
const roleName = /^[\w+=,.@-]{1,64}$/;

/**
 * Says what a request asks for, from its method and the request target as it stood on the wire. Pure, and the only reader of that target:
 * what no client sends is refused rather than repaired, since a server behind us may repair it in another way than we do.
 * Repaired is what clients do send and the service takes: a doubled slash (`macs/$MAC/vpc-id` where MAC ends in one), a slash at
 * the end, an encoded letter, a query (dropped).
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
    return refused(403, "token-version", `tokens are issued at /latest/api/token only, not below /${first}`);
  }
  if (method !== "GET" && method !== "HEAD")
    return isToken
      ? refused(405, "token-method", "a token is asked for with PUT")
      : refused(405, "method-not-allowed", "only GET and HEAD are answered here");
  if (isToken) return refused(405, "token-method", "a token is asked for with PUT");

  if (first === "") return { kind: "version-list", path: "/" };
  if (!version.test(first))
    return refused(404, "unknown-version", "the path does not begin with latest, 1.0 or a dated version");
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
  return refused(404, "unknown-tree", "the service has meta-data, dynamic and user-data, and nothing else");
}

/** The one form in which a path is judged and forwarded; the refusal where it has none. */
function canonicalPath(rawPath: string): string | Refused {
  if (rawPath.length > longestPath)
    return refused(400, "path-too-long", `the path is longer than ${longestPath} characters`);
  if (!rawPath.startsWith("/"))
    return refused(
      400,
      "not-origin-form",
      "the request target is not a path: absolute forms and CONNECT are for proxies",
    );
  const query = rawPath.indexOf("?");
  let path = query === -1 ? rawPath : rawPath.slice(0, query);
  if (path.includes("%")) {
    const decoded = decodeOnce(path);
    if (decoded === undefined)
      return refused(400, "path-encoding", "the path has an encoded character that no metadata path has");
    path = decoded;
  }
  if (!plainPath.test(path))
    return refused(400, "path-characters", "the path has a character that no metadata path has");
  if (path.includes("//")) path = path.replace(/\/{2,}/g, "/");
  // Three dots and more are a parent folder to some file systems; the service has no such name.
  if (path.includes("/.") && /\/\.+(?:\/|$)/.test(path))
    return refused(400, "dot-segment", "the path has a segment of dots");
  return path;
}

/** Undefined if anything else than a character of metadata paths is encoded: a slash, a percent sign, a NUL, UTF-8. */
function decodeOnce(path: string): string | undefined {
  let bad = false;
  const decoded = path.replace(/%(.{0,2})/gs, (whole, digits: string) => {
    const octet = /^[0-9A-Fa-f]{2}$/.test(digits) ? String.fromCharCode(Number.parseInt(digits, 16)) : "";
    if (!plainOctet.test(octet)) bad = true;
    return bad ? whole : octet;
  });
  return bad ? undefined : decoded;
}

function belowMetadata(canonical: string, below: readonly string[]): Classified {
  const [category = "", leaf, role, ...rest] = below;
  if (category !== "iam") {
    // `meta-data/dynamic/…` does not exist; were it forwarded, it would be judged as the other `dynamic/…`.
    if (category === "dynamic" || category === "user-data" || category === "meta-data")
      return refused(404, "unknown-tree", `${category} is no part of meta-data`);
    return forwarded(canonical, below);
  }
  if (leaf === undefined) return { kind: "iam-listing" };
  if (leaf === "info" && role === undefined) return { kind: "iam-info" };
  if (leaf === "security-credentials" || leaf === "security-credentials-extended") {
    const extended = leaf === "security-credentials-extended";
    if (role === undefined) return { kind: "role-list", extended };
    if (rest.length === 0 && roleName.test(role)) return { kind: "role-credentials", extended, role };
  }
  return refused(404, "not-under-iam", "meta-data/iam has info, security-credentials and one role below it");
}

function forwarded(path: string, below: readonly string[]): Metadata | Refused {
  const category = below.join("/");
  const lower = category.toLowerCase();
  // Whatever the policy says, and before it: names that hold or list credentials of the host or of ECS tasks, today's and those to come.
  if (/^iam|credential/.test(lower))
    return refused(
      404,
      "host-credentials",
      "this holds credentials of the host or of others and is never forwarded",
    );
  // Names that a lenient service might trim to another one.
  if (!/^[a-z0-9-]+$/.test(lower.slice(0, `${lower}/`.indexOf("/"))) || /\.(?:\/|$)/.test(lower))
    return refused(404, "unknown-category", "the service has no category of this spelling");
  // Only the keys of instance tags have capitals. A service that ignores case would take other names for ones that we refuse.
  if (category !== lower && !(below[0] === "tags" && below[1] === "instance" && below.length === 3))
    return refused(404, "letter-case", "metadata paths are in lower case");
  return { kind: "metadata", path, category };
}

function refused(status: Refused["status"], code: RefusalCode, reason: string): Refused {
  return { kind: "refused", status, code, reason };
}
