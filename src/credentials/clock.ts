/**
 * A clock that never goes back. A wall clock that is set back by an hour would make every pause and every refusal that this
 * program remembers an hour longer; one that is set forward only makes it renew early. `read`: milliseconds since the epoch.
 */
export function forwardClock(read: () => number): () => number {
  let latest = read();
  let ahead = 0;
  return () => {
    const now = read() + ahead;
    if (now < latest) ahead += latest - now;
    else latest = now;
    return latest;
  };
}
