/** The variables that systemd gives a service, read as systemd reads them. */

export type Variables = Readonly<Record<string, string>>;

/**
 * The assignments in a file for EnvironmentFile= (systemd.exec(5)): a line each, comments begin with `#` or
 * `;`, values may be quoted, and a backslash at the end continues a line. Lines that are none are left out,
 * as systemd does.
 */
export function parseEnvironmentFile(text: string): Variables {
  const variables: Record<string, string> = {};
  const lines = text.replaceAll("\\\n", "").split("\n");
  for (const line of lines) {
    const [, name, raw = ""] = /^\s*([A-Za-z_]\w*)\s*=(.*)$/.exec(line) ?? [];
    if (name !== undefined) variables[name] = unquoted(raw.trim());
  }
  return variables;
}

/** A value in an environment file: quoted parts and plain ones may alternate, as in a shell. */
function unquoted(raw: string): string {
  let value = "";
  let quote = "";
  for (let at = 0; at < raw.length; at += 1) {
    const character = raw[at] ?? "";
    if (quote === "" && (character === '"' || character === "'")) quote = character;
    else if (character === quote) quote = "";
    else if (character === "\\" && quote !== "'" && at + 1 < raw.length) {
      at += 1;
      value += raw[at] ?? "";
    } else value += character;
  }
  return value;
}

/** The value of `Environment=` as `systemctl show` prints it: assignments, quoted where they need it. */
export function parseAssignments(text: string): Variables {
  const variables: Record<string, string> = {};
  for (const [, quoted, plain] of text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    const assignment = quoted === undefined ? (plain ?? "") : quoted.replaceAll(/\\(.)/g, "$1");
    const at = assignment.indexOf("=");
    if (at > 0) variables[assignment.slice(0, at)] = assignment.slice(at + 1);
  }
  return variables;
}
