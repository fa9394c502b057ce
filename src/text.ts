/**
 * Escapes untrusted text for a terminal or a log. A container chooses its labels, whoever starts it its name,
 * an engine and an AWS service their error messages. A terminal interprets some of the characters, and a line
 * break would start a line that looks like ours.
 */

/** Control, format and line-breaking characters, and unpaired surrogates. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** One line: writes every unprintable character as `\u{…}`. */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** Quotes, escapes and truncates (to 100 characters) a text that a container or an operator wrote. */
export function quote(text: string): string {
  return printable(JSON.stringify(text.length > 100 ? `${text.slice(0, 99)}…` : text));
}

/**
 * Keeps line feeds and tabs, and writes every other unprintable character as `\uXXXX`. JSON allows that
 * escape anywhere in a string, so JSON keeps its meaning.
 */
export function shown(text: string): string {
  return text.replace(unprintable, (character) =>
    character === "\n" || character === "\t"
      ? character
      : character
          .split("")
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
          .join(""),
  );
}

/** Several lines: indents each after the first by `margin`, so that none of them looks like one of ours. */
export function printableLines(text: string, margin: string): string {
  return text.trimEnd().replaceAll("\t", "    ").split("\n").map(printable).join(`\n${margin}`);
}

/** Indented JSON that is safe for a terminal. */
export function jsonText(value: unknown): string {
  return shown(JSON.stringify(value, null, 2));
}
