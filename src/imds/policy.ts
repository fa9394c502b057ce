import type { Config } from "../config/schema.ts";
import { isCredentialCategory } from "./paths.ts";
import type { PassthroughCode } from "./refusals.ts";

export type Verdict =
  /** `partly`: this is a listing with some entries that are denied; editListing removes them. */
  | { readonly allowed: true; readonly partly: boolean }
  | { readonly allowed: false; readonly code: PassthroughCode; readonly reason: string };

/** Which metadata a container may read from the real service. */
export type PassthroughPolicy = {
  /**
   * @param category from classify: a path under meta-data/, `dynamic/…` or `user-data`, without a trailing
   *   slash
   */
  permits(category: string): Verdict;
};

/**
 * An allow list of path prefixes, on segment boundaries: `network/interfaces` allows what is under it, but
 * not `network/interfaces2`. `deny` takes precedence over `allow`. The listings above an allowed category are
 * allowed too, but show only the entries that lead to it.
 */
export function passthroughPolicy(settings: Config["passthrough"]): PassthroughPolicy {
  const allow = new Set(settings.allow.map(withoutTrailingSlash));
  const deny = new Set(settings.deny.map(withoutTrailingSlash));
  const aboveAllowed = new Set([...allow].flatMap(parents));
  const aboveDenied = new Set([...deny].flatMap(parents));
  const whole: Verdict = { allowed: true, partly: false };
  const part: Verdict = { allowed: true, partly: true };
  return {
    permits(category) {
      if (!settings.enabled) return denied("passthrough-disabled", "passthrough.enabled is false");
      if (isCredentialCategory(category))
        return denied("category-never", "credentials of the host or of others are never forwarded");
      const denying = prefixIn(deny, category);
      if (denying !== undefined) return denied("category-denied", `passthrough.deny has ${denying}`);
      if (prefixIn(allow, category) !== undefined) return aboveDenied.has(category) ? part : whole;
      if (aboveAllowed.has(category)) return part;
      return denied("category-not-allowed", `passthrough.allow does not cover ${category}`);
    },
  };
}

function denied(code: PassthroughCode, reason: string): Verdict {
  return { allowed: false, code, reason };
}

function withoutTrailingSlash(category: string): string {
  return category.endsWith("/") ? category.slice(0, -1) : category;
}

/** `a/b/c` -> `a`, `a/b`. */
function parents(category: string): readonly string[] {
  const segments = category.split("/");
  return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join("/"));
}

/** The category itself, or its nearest parent, if it is in the set. */
function prefixIn(set: ReadonlySet<string>, category: string): string | undefined {
  for (let at = category; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("/"))))
    if (set.has(at)) return at;
  return undefined;
}

/** Why `passthrough.allow` cannot have this category; undefined if it can. */
export function categoryProblem(category: string): string | undefined {
  const plain = withoutTrailingSlash(category);
  const [first = "", ...below] = plain.split("/");
  if (isCredentialCategory(plain))
    return `${plain} holds credentials of the host or of ECS tasks and is never forwarded; the proxy answers iam/ itself`;
  if (first === "meta-data")
    return `categories are written without meta-data/${below.length === 0 ? "" : `: ${below.join("/")}`}`;
  if (first === "latest" || /^\d/.test(first))
    return "categories are written without the version and apply to every version";
  if (first === "api") return "api/ is answered by the proxy itself";
  if (first === "user-data" && below.length > 0) return "user-data has nothing below it";
  if (plain.split("/").some((segment) => /^\.+$/.test(segment))) return "a category has no segments of dots";
  return undefined;
}

/**
 * Edits the service's listing of `below` (default: meta-data/ itself) for a container. Denied entries are
 * removed, so that a crawling client meets no 404 (cloud-init gives up at the first). `iam/` is listed, in
 * its sorted place, only if the container has a role.
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

/** Edits the service's listing of a version (`dynamic`, `meta-data`, `user-data`) for a container. */
export function editVersionRoot(listing: string, policy: PassthroughPolicy): string {
  const shown = listing
    .split("\n")
    .filter(
      (entry) =>
        withoutTrailingSlash(entry) === "meta-data" || (entry !== "" && permitsEntry(policy, "", entry)),
    );
  return shown.join("\n");
}

function permitsEntry(policy: PassthroughPolicy, prefix: string, entry: string): boolean {
  return policy.permits(prefix + withoutTrailingSlash(entry)).allowed;
}
