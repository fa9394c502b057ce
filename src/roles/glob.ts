/**
 * A glob. `*` matches any run of characters, including `/` and `:`; `?` matches one. The rest is literal and
 * case-sensitive.
 */
export type Glob = {
  /** As written. */
  readonly text: string;
  matches(value: string): boolean;
};

export function glob(text: string): Glob {
  const pattern = [...text];
  return { text, matches: (value) => matches(pattern, [...value]) };
}

/**
 * Not a RegExp: the value comes from a container, and `*a*a*a*b` as a RegExp takes exponential time on
 * `aaaa…`. Only the last `*` needs backtracking: extending an earlier one matches nothing that the last one
 * cannot. So the time is at most the length of the value times the length of the pattern.
 */
function matches(pattern: readonly string[], value: readonly string[]): boolean {
  let at = 0;
  let from = 0;
  let star = -1;
  let starTakesUntil = 0;
  while (from < value.length) {
    // Test for `*` before the literal comparison: the value may contain a `*` itself.
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
