/** Text as mdoc(7) wants it. */

/** Escapes for roff: a backslash, and a dot or a quote at the beginning of a line, are control characters. */
export function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replace(/^(?=[.'])/gm, "\\&")
    .replaceAll("-", "\\-");
}

/**
 * Removes the backquotes and links, which are for editors and browsers. Puts each sentence on its own line,
 * as mdoc(7) requires.
 */
export function prose(text: string): string {
  const plain = text.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1").replaceAll("`", "");
  return roff(plain.replace(/([.:;]) (?=[A-Z])/g, "$1\n"));
}
