/** An object of what `ip -j` prints. */
export type Listed = Readonly<Record<string, unknown>>;

/**
 * Parses what `ip -j` prints.
 * @param listing empty if there is nothing to list
 * @throws if it is not a JSON list
 */
export function parseListing(listing: string): readonly Listed[] {
  // ip does not escape control characters, and a container with NET_ADMIN may name a link of the host.
  const text = listing.replaceAll(/\p{Cc}/gu, " ").trim();
  const entries: unknown = text === "" ? [] : JSON.parse(text);
  if (!Array.isArray(entries)) throw new Error("ip printed no list");
  return (entries as readonly unknown[]).filter(isListed);
}

/** The driver of a link, and its settings. */
export function linkInfo({ linkinfo }: Listed): { readonly kind: unknown; readonly settings: Listed } {
  const { info_kind: kind, info_data: settings } = isListed(linkinfo) ? linkinfo : {};
  return { kind, settings: isListed(settings) ? settings : {} };
}

function isListed(value: unknown): value is Listed {
  return typeof value === "object" && value !== null;
}
