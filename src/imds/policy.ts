import type { Config } from "../config/schema.ts";

export type Verdict =
  /** `partly`: this is a listing, and some of what it lists is denied. It is answered edited, by editListing. */
  | { readonly allowed: true; readonly partly: boolean }
  | { readonly allowed: false; readonly code: DenialCode; readonly reason: string };

export type DenialCode =
  | "passthrough-disabled"
  | "category-denied"
  | "category-not-allowed"
  | "category-never";

/** Which metadata a container may read from the real service. */
export type PassthroughPolicy = {
  /** `category` as classify gives it: a path below meta-data/, `dynamic/…` or `user-data`, without a slash at the end. */
  permits(category: string): Verdict;
};

const never = /^iam|credential/i;

/**
 * An allow list by path prefix, on segment borders: `network/interfaces` allows what is below it, not `network/interfaces2`.
 * What `deny` names is refused though `allow` has it. Listings above something allowed are allowed, but show only the way to it.
 */
export function passthroughPolicy(settings: Config["passthrough"]): PassthroughPolicy {
  const allow = new Set(settings.allow.map(withoutEndSlash));
  const deny = new Set(settings.deny.map(withoutEndSlash));
  const aboveAllowed = new Set([...allow].flatMap(parents));
  const aboveDenied = new Set([...deny].flatMap(parents));
  const whole: Verdict = { allowed: true, partly: false };
  const part: Verdict = { allowed: true, partly: true };
  return {
    permits(category) {
      if (!settings.enabled) return denied("passthrough-disabled", "passthrough.enabled is false");
      if (never.test(category))
        return denied("category-never", "credentials of the host or of others are never forwarded");
      const denying = prefixIn(deny, category);
      if (denying !== undefined) return denied("category-denied", `passthrough.deny has ${denying}`);
      if (prefixIn(allow, category) !== undefined) return aboveDenied.has(category) ? part : whole;
      if (aboveAllowed.has(category)) return part;
      return denied("category-not-allowed", `passthrough.allow has nothing that covers ${category}`);
    },
  };
}

function denied(code: DenialCode, reason: string): Verdict {
  return { allowed: false, code, reason };
}

function withoutEndSlash(category: string): string {
  return category.endsWith("/") ? category.slice(0, -1) : category;
}

/** `a/b/c` -> `a`, `a/b`. */
function parents(category: string): readonly string[] {
  const segments = category.split("/");
  return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join("/"));
}

/** The category itself or the nearest parent of it that is in the set. */
function prefixIn(set: ReadonlySet<string>, category: string): string | undefined {
  for (let at = category; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("/"))))
    if (set.has(at)) return at;
  return undefined;
}

/** Why a category cannot stand in `passthrough.allow`, however much the operator wants it; undefined where it can. */
export function categoryProblem(category: string): string | undefined {
  const plain = withoutEndSlash(category);
  const [first = "", ...below] = plain.split("/");
  if (/^iam/i.test(first))
    return `${plain} holds credentials of the host or of ECS tasks; the proxy answers iam/ itself and forwards nothing below it`;
  if (/credential/i.test(plain)) return `${plain} holds credentials of the host and is never forwarded`;
  if (first === "meta-data")
    return `categories are written without meta-data/${below.length === 0 ? "" : `: ${below.join("/")}`}`;
  if (first === "latest" || /^\d/.test(first))
    return "categories are written without the version, and hold for every version";
  if (first === "api") return "api/ is answered by the proxy itself";
  if (first === "user-data" && below.length > 0) return "user-data has nothing below it";
  if (plain.split("/").some((segment) => /^\.+$/.test(segment))) return "a category has no segments of dots";
  return undefined;
}

/**
 * The service's listing of `below` (default: meta-data/ itself) as a container may see it: without what is denied, so that a client that
 * crawls meets no 404 on its way (cloud-init gives up at the first), and with `iam/`, in its place, only if the container has a role.
 */
export function editListing(
  listing: string,
  policy: PassthroughPolicy,
  about: { readonly hasRole: boolean; readonly below?: string },
): string {
  const prefix = about.below === undefined || about.below === "" ? "" : `${about.below}/`;
  const shown = listing.split("\n").filter((entry) => entry !== "" && permitsEntry(policy, prefix, entry));
  if (prefix === "" && about.hasRole) {
    const place = shown.findIndex((entry) => entry > "iam/");
    shown.splice(place === -1 ? shown.length : place, 0, "iam/");
  }
  return shown.join("\n");
}

/** The service's listing of a version (`dynamic`, `meta-data`, `user-data`) as a container may see it. */
export function editVersionRoot(listing: string, policy: PassthroughPolicy): string {
  const shown = listing
    .split("\n")
    .filter(
      (entry) => withoutEndSlash(entry) === "meta-data" || (entry !== "" && permitsEntry(policy, "", entry)),
    );
  return shown.join("\n");
}

function permitsEntry(policy: PassthroughPolicy, prefix: string, entry: string): boolean {
  return policy.permits(prefix + withoutEndSlash(entry)).allowed;
}
