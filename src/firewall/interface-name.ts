/** IFNAMSIZ in the kernel is 16, including the terminating NUL. */
export const interfaceNameLimit = 15;

/**
 * Whether a text is the name of an interface that may be in our rules. Stricter than the kernel: no engine
 * and no tool makes a bridge with other characters, and names become part of texts for nft, iptables and ip.
 */
export function isInterfaceName(text: string): boolean {
  return text.length <= interfaceNameLimit && hasNameCharacters(text) && !["lo", ".", ".."].includes(text);
}

/** iptables reads a trailing "+" as a wildcard; a quote or a brace would be nft syntax. */
export function hasNameCharacters(text: string): boolean {
  return /^[A-Za-z0-9_.@-]+$/.test(text);
}

/** @param pattern a name, or the start of one followed by `*` */
export function matchesInterface(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
