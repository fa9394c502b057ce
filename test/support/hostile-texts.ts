/** Texts that a container, an engine or an AWS service could use as a name, a label or an error message. */
export const hostileTexts: readonly string[] = [
  "web\u001b[2J\u001b[1;1Hok    configuration",
  "web\u001b]0;title\u0007",
  "web\nFAIL  role  forged",
  "web\r\nMAINPID=1",
  "web\u0085forged",
  "web\u009b2Jforged",
  "web\u2028forged\u2029",
  "\u202eevil\u202c \u2066x\u2069",
  "a\u0000b\u0008\u007f",
  "zero\u200bwidth\ufeff",
  "tag\u{e0041}",
  "half\ud800",
  "tab\tbed",
];

/**
 * Characters that must not reach a terminal or a line-based reader. Line feeds and tabs of our own are
 * allowed.
 */
export const unsafe = /[^\n\t\P{Cc}]|[\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
