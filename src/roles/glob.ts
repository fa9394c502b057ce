/** A compiled glob: `*` is any run of characters, `/` and `:` too, `?` is one character; the rest is literal, in its letter case. */
export type Glob = {
  /** As it was written. */
  readonly text: string;
  matches(value: string): boolean;
};

export function glob(text: string): Glob {
  const pattern = [...text];
  return { text, matches: (value) => matches(pattern, [...value]) };
}

/**
 * Not a RegExp: the value comes from a container, and `*a*a*a*b` as a RegExp takes exponential time on `aaaa…`.
 * Only the last `*` that was passed needs another try, since an earlier one taking more could match nothing that a later
 * one cannot; so the time is at most value's length times the pattern's.
 */
function matches(pattern: readonly string[], value: readonly string[]): boolean {
  let at = 0;
  let from = 0;
  let star = -1;
  let starTakesUntil = 0;
  while (from < value.length) {
    // `*` before the literal comparison: a value may hold a `*` itself.
    if (pattern[at] === "*") {
      star = at++;
      starTakesUntil = from;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === value[from])) {
      at++;
      from++;
    } else if (star >= 0) {
      at = star + 1;
      from = ++starTakesUntil;
    } else {
      return false;
    }
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
