/** A value of a drop-in, or what is wrong with it. */
export type Parsed<T> = { readonly value: T } | { readonly message: string; readonly hint: string };

export function wrong(message: string, hint = ""): { readonly message: string; readonly hint: string } {
  return { message, hint };
}

/** Separated by blanks or commas. */
export function words(value: string): readonly string[] {
  return value.split(/[\s,]+/).filter((word) => word !== "");
}

export function portNumber(value: string): Parsed<number> {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : 0;
  return port >= 1 && port <= 65_535
    ? { value: port }
    : wrong(`expected a port from 1 to 65535, got "${value}"`);
}

export function yesOrNo(value: string): Parsed<boolean> {
  if (/^(yes|true|on|1)$/i.test(value)) return { value: true };
  if (/^(no|false|off|0)$/i.test(value)) return { value: false };
  return wrong(`expected yes or no, got "${value}"`);
}

/** The kernel's IFNAMSIZ is 16 with the closing NUL. */
const longestName = 15;

/** An interface's name, or the beginning of one and `*`. */
export function interfacePattern(word: string): Parsed<string> {
  const name = word.endsWith("*") ? word.slice(0, -1) : word;
  if (name === "") {
    return wrong(
      `"${word}" would match every interface of the host`,
      "Name the bridges: docker0 br-* podman*.",
    );
  }
  if (name.includes("*")) return wrong(`"${word}" has a "*" that is not at its end`);
  if (name === "lo") return wrong('"lo" is the host itself', "Only the containers' bridges belong here.");
  // A trailing "+" is a wildcard to iptables, a quote or a brace would be nft syntax; no bridge has them in its name.
  if (!/^[A-Za-z0-9_.@-]+$/.test(name)) return wrong(`"${word}" is no interface name`);
  if (name.length > longestName) {
    return wrong(`"${word}" has ${name.length} characters, an interface name at most ${longestName}`);
  }
  return { value: word };
}

/** RFC 5952 text, as nft, ip6tables and ip print addresses. */
export function canonicalIpv6(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}
