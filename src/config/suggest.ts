import { closestMatch } from "leven";

/**
 * No real name is longer, and comparing two texts takes time proportional to the product of their lengths.
 */
const longestName = 256;

/** `Did you mean "listen"?` if a candidate is close enough to be a typo; otherwise empty. */
export function didYouMean(written: string, candidates: readonly string[]): string {
  if (written.length > longestName) return "";
  const limit = Math.max(1, Math.floor(written.length / 3));
  const sameIgnoringCase = candidates.find((candidate) => candidate.toLowerCase() === written.toLowerCase());
  const match = sameIgnoringCase ?? closestMatch(written, candidates, { maxDistance: limit });
  return match === undefined ? "" : `Did you mean "${match}"?`;
}
