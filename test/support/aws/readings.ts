/**
 * The ways to interpret a request path. The real IMDS is a black box, so the stand-in plays the worst one: it
 * accepts every spelling that any server might accept, and `imds.ts` answers with the most secret of the
 * results. So a proxy that forwards an odd spelling is caught, however the real service interprets it.
 */

/** Paths as SDKs send them have one reading. Checked first, for the benchmarks. */
const plain = /^(?:\/(?!\.{1,2}(?:\/|$))[\w.:=-]+)+\/?$/;

/**
 * The reading of a strict server: the path before `?` or `#`, with its letter case, without a trailing slash.
 */
export function strictReading(rawUrl: string): string {
  const path = rawUrl.replace(/^http:\/\/[^/]*/i, "").replace(/[?#].*$/s, "");
  return path.replace(/^\//, "").replace(/\/$/, "");
}

/**
 * Every reading of a raw request target, in lower case, without leading or trailing slashes:
 * `latest/meta-data/ami-id`. At least one, in no particular order.
 */
export function generousReadings(rawUrl: string): readonly string[] {
  if (plain.test(rawUrl)) return [strictReading(rawUrl).toLowerCase()];
  const found = new Set<string>();
  for (const target of originForms(rawUrl)) {
    for (const uncut of [target, cutQuery(target)]) {
      const decoded = decodeFully(uncut);
      for (const text of [decoded, cutQuery(decoded), decoded.replace(/\0.*$/s, "")]) {
        found.add(resolve(text, "with parameters"));
        found.add(resolve(text, "without parameters"));
      }
    }
  }
  return [...found];
}

/**
 * In absolute form (`http://host/path`, any scheme) and in `//host/path` the path follows the host, or the
 * whole is a path.
 */
function originForms(rawUrl: string): readonly string[] {
  const forms = [rawUrl];
  const absolute = /^[a-z][a-z0-9+.-]*:[/\\]*[^/\\]*(.*)$/is.exec(rawUrl);
  if (absolute?.[1] !== undefined) forms.push(absolute[1]);
  const networkPath = /^[/\\]{2,}[^/\\]*(.*)$/s.exec(rawUrl);
  if (networkPath?.[1] !== undefined) forms.push(networkPath[1]);
  return forms;
}

function cutQuery(text: string): string {
  return text.replace(/[?#].*$/s, "");
}

/**
 * Percent-decodes until nothing changes: `%2525` and deeper, `%u002f`, overlong UTF-8 (`%c0%af` for `/`),
 * full-width letters.
 */
function decodeFully(text: string): string {
  let before = text;
  for (let round = 0; round < 10; round += 1) {
    const bytes = before
      .replace(/%u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
      .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
      .replace(/[\xc0\xc1][\x80-\xbf]/g, (pair) => overlong(pair))
      .replace(/\xe0[\x80-\x9f][\x80-\xbf]/g, (triple) => overlong(triple.slice(1)));
    const after = fromUtf8(bytes).normalize("NFKC");
    if (after === before) return after;
    before = after;
  }
  return before;
}

/** The character of an overlong form: the payload bits of its last two bytes. */
function overlong(pair: string): string {
  return String.fromCharCode(((pair.charCodeAt(0) & 0x1f) << 6) | (pair.charCodeAt(1) & 0x3f));
}

/** Decodes bytes (as Latin-1 text) as UTF-8. Returns them unchanged if they are not UTF-8. */
function fromUtf8(bytes: string): string {
  if (/[^\0-\xff]/.test(bytes)) return bytes;
  const text = Buffer.from(bytes, "latin1").toString("utf8");
  return text.includes("\ufffd") ? bytes : text;
}

/**
 * Normalises backslashes, `//`, `.` and `..`, control characters, spaces, letter case, and optionally
 * `;parameters` of each segment.
 */
function resolve(text: string, parameters: "with parameters" | "without parameters"): string {
  const segments: string[] = [];
  // URL parsers drop tabs, newlines and NUL inside a path.
  for (const raw of text
    .replaceAll("\\", "/")
    .replace(/[\0-\x20\x7f]/g, "")
    .split("/")) {
    const segment = parameters === "without parameters" ? raw.replace(/;.*$/s, "") : raw;
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment.toLowerCase());
  }
  return segments.join("/");
}
