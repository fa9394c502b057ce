/**
 * Texts that others wrote, made fit to be shown. A container chooses its labels, and who may start one its name; an engine and an
 * AWS service choose their error messages. A terminal obeys some characters in them, and a line break begins a line that looks like ours.
 */

/** Control, format and line-breaking characters, and halves of surrogate pairs. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** One line: what is no plain character is written `\u{…}`. */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** A text that a container or an operator wrote, quoted, escaped and cut, so that it can do nothing in a log or a terminal. */
export function quote(text: string): string {
  return printable(JSON.stringify(text.length > 100 ? `${text.slice(0, 99)}…` : text));
}

/**
 * What a program prints, with its line feeds and tabs. The rest is written `\uXXXX`, as JSON allows anywhere in a string: so this
 * may be done to JSON as well, and changes nothing that it says.
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

/** Several lines: each line after the first is set in by `margin`, so that none of them can be taken for one of ours. */
export function printableLines(text: string, margin: string): string {
  return text.trimEnd().replaceAll("\t", "    ").split("\n").map(printable).join(`\n${margin}`);
}

/** Indented JSON that a terminal can be shown too. */
export function jsonText(value: unknown): string {
  return shown(JSON.stringify(value, null, 2));
}
