import { closestMatch } from "leven";

/** No name that is meant is longer, and comparing two texts takes time in proportion to the product of their lengths. */
const longestName = 256;

/** `Did you mean "listen"?` where a candidate is near enough to what was written to be a slip of the hand; else empty. */
export function didYouMean(written: string, candidates: readonly string[]): string {
  if (written.length > longestName) return "";
  const limit = Math.max(1, Math.floor(written.length / 3));
  const exactButCase = candidates.find((candidate) => candidate.toLowerCase() === written.toLowerCase());
  const match = exactButCase ?? closestMatch(written, candidates, { maxDistance: limit });
  return match === undefined ? "" : `Did you mean "${match}"?`;
}
