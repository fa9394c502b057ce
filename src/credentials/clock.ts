/**
 * Durations are differences of two `now()`. `wallNow()` is for times that are compared with another host's
 * clock.
 */
export type Clocks = {
  /** Milliseconds, monotonic. Starts at the wall clock's time, so that values are readable. */
  readonly now: () => number;
  /**
   * This host's wall clock, milliseconds since the epoch. May be wrong, and may jump either way at any time.
   */
  readonly wallNow: () => number;
};

/** How often to check whether the host was suspended: after a resume it can take this long to notice. */
const checkEveryMs = 1_000;
/** The kernel reports the time since boot in hundredths of a second. */
const toleranceMs = 100;

/**
 * A clock for durations. The wall clock is not suitable: set back by a day, it makes every pause a day
 * longer; set forward, it makes all credentials look expired and renews them all at once. The monotonic clock
 * alone stops while an instance is suspended or hibernated, so credentials that expired meanwhile would be
 * served. The clock since boot does not stop, so its lead over the monotonic clock is added.
 */
export function steadyClock(read: {
  /** The first value: the wall clock's time, milliseconds since the epoch. */
  readonly start: number;
  /** Milliseconds from any origin; never goes back, stops while the host is suspended. */
  readonly monotonic: () => number;
  /** Seconds since boot, including the time that the host was suspended. */
  readonly sinceBoot: () => number;
}): () => number {
  const origin = read.monotonic();
  /** How far the clock since boot is ahead of the monotonic one. */
  let lead = read.sinceBoot() * 1000 - origin;
  let suspendedMs = 0;
  let checkedAt = origin;
  return () => {
    const monotonic = read.monotonic();
    if (monotonic - checkedAt >= checkEveryMs) {
      checkedAt = monotonic;
      const gained = read.sinceBoot() * 1000 - monotonic - lead;
      if (gained > toleranceMs) {
        suspendedMs += gained;
        lead += gained;
      }
    }
    return Math.floor(read.start + (monotonic - origin) + suspendedMs);
  };
}
