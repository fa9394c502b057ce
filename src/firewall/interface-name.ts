/** IFNAMSIZ in the kernel is 16, including the terminating NUL. */
export const interfaceNameLimit = 15;

/**
 * Whether a text is the name of an interface that may be in our rules. Stricter than the kernel: no engine
 * and no tool makes a bridge with other characters, and names become part of texts for nft, iptables and ip.
 * A number would be taken for an interface's index, or an index for it.
 */
export function isInterfaceName(text: string): boolean {
  if (text.length > interfaceNameLimit || !hasNameCharacters(text)) return false;
  return !["lo", ".", ".."].includes(text) && !/^(\d+|0x[0-9a-f]+)$/i.test(text);
}

/** iptables reads a trailing "+" as a wildcard; a quote or a brace would be nft syntax. */
export function hasNameCharacters(text: string): boolean {
  return /^[A-Za-z0-9_.@-]+$/.test(text);
}

/** @param pattern a name, or the start of one followed by `*` */
export function matchesInterface(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
