/** The range that the code was written for and is tested with. */
const oldestTested = "1.41";
const newestTested = "1.52";

export function isApiVersion(value: unknown): value is string {
  return typeof value === "string" && /^\d+\.\d+$/.test(value);
}

/**
 * The newest version that both sides know, from the engine's newest and oldest. An engine whose oldest is
 * newer than our newest gets its oldest; one that is older than our oldest gets its newest. That is safe: the
 * fields that we read have been the same for many versions, and the shape of every answer is checked.
 */
export function negotiate(engineNewest: string, engineOldest: unknown): string {
  const newest = compare(engineNewest, newestTested) < 0 ? engineNewest : newestTested;
  if (!isApiVersion(engineOldest)) return newest;
  return compare(newest, engineOldest) < 0 ? engineOldest : newest;
}

/** A version outside the range deserves a warning. */
export function isTestedApi(version: string): boolean {
  return compare(version, oldestTested) >= 0 && compare(version, newestTested) <= 0;
}

function compare(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split(".").map(Number);
  const [bMajor = 0, bMinor = 0] = b.split(".").map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}
