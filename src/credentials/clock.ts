/** The two times there are. A duration is a difference of two `now()`; what somebody else's clock is compared with is `wallNow()`. */
export type Clocks = {
  /** Milliseconds; never goes back and never jumps. Begins at the wall clock's time, so that a value can be read by a person. */
  readonly now: () => number;
  /** Milliseconds since the epoch, as this host believes; it may be wrong, and may be set forward or back at any time. */
  readonly wallNow: () => number;
};

/** How often, at most, it is looked whether the host has slept: so long may a sleep go unnoticed after its end. */
const lookEveryMs = 1_000;
/** The kernel tells the time since boot in hundredths of a second. */
const toleranceMs = 100;

/**
 * A clock for durations. The wall clock will not do: set back by a day it makes every pause a day longer, set forward it makes all
 * credentials look expired, and renews them all at once. The monotonic clock alone stands still while an instance is suspended or
 * hibernates, and credentials that died meanwhile would be handed out: what the clock since boot, which goes on, has gained on it is added.
 */
export function steadyClock(read: {
  /** Where it begins: the wall clock's time, milliseconds since the epoch. */
  readonly start: number;
  /** Milliseconds from any beginning; never goes back, stands still in a suspended host. */
  readonly monotonic: () => number;
  /** Seconds since boot, a suspended host's time included. */
  readonly sinceBoot: () => number;
}): () => number {
  const begin = read.monotonic();
  /** How far the clock since boot is ahead of the monotonic one. */
  let gap = read.sinceBoot() * 1000 - begin;
  let slept = 0;
  let lookedAt = begin;
  return () => {
    const monotonic = read.monotonic();
    if (monotonic - lookedAt >= lookEveryMs) {
      lookedAt = monotonic;
      const gained = read.sinceBoot() * 1000 - monotonic - gap;
      if (gained > toleranceMs) {
        slept += gained;
        gap += gained;
      }
    }
    return Math.floor(read.start + (monotonic - begin) + slept);
  };
}
