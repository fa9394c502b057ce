/**
 * An odd request for a resource that must not be returned. `target` has one character per byte, as on the
 * wire.
 */
export type PathVariant = { readonly method: string; readonly target: string; readonly mutation: string };

/**
 * What no container may get from the real service: credentials, the host's profile, other tasks' credentials,
 * secrets, proofs of identity.
 */
const secretPaths: readonly string[] = [
  "/latest/meta-data/iam/security-credentials",
  "/latest/meta-data/iam/security-credentials/host-role",
  "/latest/meta-data/iam/security-credentials-extended",
  "/latest/meta-data/iam/security-credentials-extended/host-role",
  "/latest/meta-data/iam/info",
  "/latest/meta-data/iam",
  "/latest/meta-data/identity-credentials/ec2/info",
  "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
  "/latest/meta-data/iam-ecs-4f2a/info",
  "/latest/meta-data/iam-ecs-4f2a/security-credentials/7d1e-TaskApplication",
  "/latest/meta-data/managed-ssh-keys/signer-cert",
  "/latest/user-data",
  "/latest/dynamic/instance-identity/document",
  "/latest/dynamic/instance-identity/pkcs7",
];

// biome-ignore format: a list
const versions = [
  "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "2011-01-01", "2011-05-01",
  "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01",
  "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "2099-12-31", "0000-00-00",
  // not versions, but might be taken for one
  "LATEST", "Latest", "latest.", "latest;v=1", "late%73t", "1.0.", "1.00", "01.0", "1%2e0", "2021-3-23", "2021-03-23T00:00:00Z", "v1", "current", "", ".", "latest%20",
];

/** What a lenient server might read as a slash, or drop between two segments. */
// biome-ignore format: a list
const slashes = [
  "//", "///", "/./", "/.//", "/x/../", "/x/%2e%2e/", "/x/%2E./", "/x/.%2e/", "/%2e/", "/x/..;/", "/;/", ";/", "/;a=b/", ";jsessionid=1/", "%2f", "%2F", "%252f", "%25252F", "/%2f", "%2f/",
  "\\", "\\\\", "/\\", "%5c", "%5C", "%255c", "/x\\..\\", "%c0%af", "%C0%AF", "%e0%80%af", "%f0%80%80%af", "%c1%9c", "\xc0\xaf", "%e2%88%95", "\xe2\x88\x95", "%ef%bc%8f", "%u002f", "%u2215",
  "/\t", "\t/", "/%09", "/%00", "%00/", "/\0", "/%20", "%20/", "/ ", "/+", "/%0a", "/%0d%0a", "/\x7f", "/*/", "/~/", ":", "/:", "%3a", "|", "/_/", "/../meta-data/", "/....//", "/x/x/../../", "",
];

// biome-ignore format: a list
const endings = [
  "/", "//", "///", "/.", "/./", "/x/..", "/x/../", "/..", "/../", ".", "..", "...", "%2e", "/%2e", "/%2e%2e", "?", "?x=1", "?/../..", "?a=/latest/meta-data/ami-id", "??", "#", "#x", "/#", "%23", "%3f", "%3Fx=1",
  ";", ";x", ";a=b", "%3b", "\0", "%00", "%00.html", "%2500", "\0/ami-id", "%00/../ami-id", " ", "%20", "%20%20", "+", "\t", "%09", "%0a", "%0d", "%0d%0aHost:%20x", "\x01", "\x7f", "%7f", "\xa0", "%c2%a0", "\xc2\xa0",
  "%e2%80%8b", "\xe2\x80\x8b", "%ad", "\xad", "%c2%ad", "%ef%bb%bf", ".json", ".html", ".xml", "~", "$", "*", "'", "\"", "`", "|", "<", ">", "^", "{}", "[]", "!", "&", "&x=1", ",", "=", "@", ":", "::$DATA", ":80", "\\", "%5c", "%", "%%", "%2", "%zz", "%u0000",
];

const beginnings = [
  "http://169.254.169.254",
  "HTTP://169.254.169.254",
  "https://169.254.169.254",
  "http://169.254.169.254:80",
  "http://x@169.254.169.254",
  "http://[fd00:ec2::254]",
  "http://localhost",
  "http:",
  "//169.254.169.254",
  "///169.254.169.254",
  "/http://169.254.169.254",
  "ws://169.254.169.254",
  "file://",
  "*",
  ".",
  "..",
  "\\",
  "\\\\",
  "/",
  "//",
  "/.",
  "/..",
  "/../..",
  "/%2e%2e",
  "/%2e",
  "/x/..",
  "/latest/..",
  "/latest/meta-data/../..",
  "/latest/meta-data/placement/../../..",
  "/latest/meta-data/ami-id/%2e%2e/%2e%2e/%2e%2e",
  "/latest/meta-data/placement/..%2f..%2f..",
  "/latest/meta-data/placement/..%5c..%5c..",
  "/latest/meta-data/placement/..\\..\\..",
  "/latest/meta-data/placement/..;/..;/..;",
  "/latest/meta-data/placement/%252e%252e/%252e%252e/%252e%252e",
  "/latest/meta-data/placement/..%c0%af..%c0%af..",
  "/latest/meta-data/placement/%c0%ae%c0%ae/%c0%ae%c0%ae/%c0%ae%c0%ae",
  "/latest/meta-data/placement?/../../..",
  "/latest/meta-data/placement#/../../..",
  "/latest/meta-data/placement%3f/../../..",
  "/latest/meta-data/placement%00/../../..",
  "/latest/meta-data/tags/instance/../../../..",
  "/latest/meta-data/tags/instance/..%2f..%2f..%2f..",
  "/?",
  "/#",
  ";",
  "/;",
  "/%20",
  "/\t",
  "/\0",
  "/%00",
  "/%2f",
  "%2f",
  "/%5c",
  "\xef\xbb\xbf",
  "/%ef%bb%bf",
];

/** Ways to write one letter of a segment. */
const letters: readonly [string, (letter: string) => string][] = [
  ["encoded", (letter) => `%${hex(letter)}`],
  ["encoded, capital digits", (letter) => `%${hex(letter).toUpperCase()}`],
  ["encoded twice", (letter) => `%25${hex(letter)}`],
  ["encoded three times", (letter) => `%2525${hex(letter)}`],
  ["encoded digit by digit", (letter) => `%${hex(hex(letter)[0] ?? "0").replace(/^/, "%")}${hex(letter)[1]}`],
  ["overlong, two bytes", (letter) => overlong(letter)],
  ["overlong, raw", (letter) => decodeURIComponentBytes(overlong(letter))],
  ["encoded the Microsoft way", (letter) => `%u00${hex(letter)}`],
  ["capital", (letter) => letter.toUpperCase()],
  ["capital, encoded", (letter) => `%${hex(letter.toUpperCase())}`],
  ["full width", (letter) => utf8Encoded(String.fromCodePoint((letter.codePointAt(0) ?? 0) + 0xfee0))],
  ["full width, raw", (letter) => utf8Raw(String.fromCodePoint((letter.codePointAt(0) ?? 0) + 0xfee0))],
  ["with a combining mark", (letter) => letter + utf8Encoded("\u0301")],
  ["after a NUL", (letter) => `%00${letter}`],
  ["after a soft hyphen", (letter) => utf8Encoded("\u00ad") + letter],
  ["after a raw tab", (letter) => `\t${letter}`],
  ["left out", () => ""],
  ["twice", (letter) => letter + letter],
];

/** Non-ASCII letters that case folding turns into ASCII. */
const folding: readonly [RegExp, string][] = [
  [/s/, "\u017f"],
  [/i/, "\u0131"],
  [/i/, "\u0130"],
  [/k/, "\u212a"],
];

/** The secret paths in tens of thousands of odd forms, all different, in the same order on each run. */
export function* pathVariants(): Generator<PathVariant> {
  const seen = new Set<string>();
  for (const variant of everyVariant()) {
    const key = `${variant.method} ${variant.target}`;
    if (seen.has(key)) continue;
    seen.add(key);
    yield variant;
  }
}

function* everyVariant(): Generator<PathVariant> {
  for (const path of secretPaths) {
    for (const method of ["GET", "HEAD"]) yield { method, target: path, mutation: "as it is" };
    for (const method of [
      "POST",
      "PUT",
      "DELETE",
      "OPTIONS",
      "TRACE",
      "PATCH",
      "PROPFIND",
      "get",
      "M-SEARCH",
    ])
      yield { method, target: path, mutation: "another method" };
    for (const target of [...written(path)]) {
      yield { method: "GET", ...target };
      // Two mutations at once: an ending that hides the first from a naive filter.
      for (const ending of ["/", "?x", "%00", ";x", "/.", "%2f"])
        yield {
          method: "GET",
          target: target.target + ending,
          mutation: `${target.mutation}, then ${ending}`,
        };
    }
    for (const version of versions) {
      const dated = path.replace(/^\/latest/, `/${version}`);
      yield { method: "GET", target: dated, mutation: `version ${version}` };
      yield { method: "GET", target: `${dated}/`, mutation: `version ${version} and a slash` };
      yield { method: "GET", target: dated.toUpperCase(), mutation: `version ${version} in capitals` };
    }
  }
  for (const authority of ["169.254.169.254:80", "169.254.169.254", "localhost:80", "[fd00:ec2::254]:80"])
    yield { method: "CONNECT", target: authority, mutation: "CONNECT" };
  for (const target of ["*", "", " ", "?", "#", ".", "..", "\0", "%", "http://", "latest"])
    yield { method: "GET", target, mutation: "no path" };
}

function* written(path: string): Generator<{ target: string; mutation: string }> {
  for (const ending of endings) yield { target: path + ending, mutation: `ends in ${ending}` };
  for (const beginning of beginnings) {
    yield { target: beginning + path, mutation: `begins with ${beginning}` };
    yield { target: beginning + path.replace(/^\//, ""), mutation: `begins with ${beginning}, no slash` };
  }
  const segments = path.slice(1).split("/");
  for (let at = 0; at < segments.length; at++) {
    const before = `/${segments.slice(0, at).join("/")}${at === 0 ? "" : "/"}`;
    const segment = segments[at] ?? "";
    const after = at + 1 < segments.length ? `/${segments.slice(at + 1).join("/")}` : "";
    for (const slash of slashes) {
      const target = before.slice(0, -1) + slash + segment + after;
      yield { target, mutation: `slash ${at} as ${slash}` };
    }
    for (const [name, write] of letters) {
      for (const place of new Set([0, Math.floor(segment.length / 2), segment.length - 1])) {
        const letter = segment[place] ?? "";
        const target = before + segment.slice(0, place) + write(letter) + segment.slice(place + 1) + after;
        yield { target, mutation: `letter ${place} of ${segment} ${name}` };
      }
      yield { target: before + [...segment].map(write).join("") + after, mutation: `${segment} ${name}` };
    }
    for (const [letter, foreign] of folding) {
      yield {
        target: before + segment.replace(letter, utf8Encoded(foreign)) + after,
        mutation: "folds to ASCII",
      };
      yield {
        target: before + segment.replace(letter, utf8Raw(foreign)) + after,
        mutation: "folds to ASCII, raw",
      };
    }
    for (const mark of [".", "..", "%20", " ", "%00", "+", "~", "_", "-", "%2e", "::$DATA"])
      yield { target: `${before}${segment}${mark}${after}`, mutation: `${segment} followed by ${mark}` };
  }
  yield { target: path.replaceAll("/", "\\"), mutation: "backslashes" };
  yield { target: path.replaceAll("/", "%2f"), mutation: "encoded slashes" };
  yield { target: `/${path.slice(1).replaceAll("/", "%2f")}`, mutation: "encoded slashes but the first" };
  yield { target: [...path].map((c) => `%${hex(c)}`).join(""), mutation: "all encoded" };
  yield {
    target: `/${[...path.slice(1)].map((c) => `%${hex(c)}`).join("")}`,
    mutation: "all encoded but the first slash",
  };
  yield {
    target: path.replace(/[a-z]+/g, (word) => `${word[0]?.toUpperCase()}${word.slice(1)}`),
    mutation: "title case",
  };
  yield {
    target: path.replace(/[a-z]/g, (c, i: number) => (i % 2 === 0 ? c.toUpperCase() : c)),
    mutation: "mixed case",
  };
  yield { target: path.toUpperCase(), mutation: "capitals" };
  for (const count of [10, 100, 1000, 2000]) {
    yield { target: "/".repeat(count) + path, mutation: `${count} slashes` };
    yield { target: "/x/..".repeat(count) + path, mutation: `${count} detours` };
    yield { target: "/.".repeat(count) + path, mutation: `${count} dots` };
    yield { target: path + "/".repeat(count), mutation: `${count} slashes at the end` };
    yield { target: `${path}?${"x".repeat(count)}`, mutation: `a query of ${count}` };
    yield { target: `${path}%25${"25".repeat(count)}`, mutation: `encoded ${count} times` };
  }
}

function hex(letter: string): string {
  return letter.charCodeAt(0).toString(16).padStart(2, "0");
}

/** An ASCII character as two bytes, which UTF-8 forbids and lenient decoders accept. */
function overlong(letter: string): string {
  const code = letter.charCodeAt(0);
  return `%${(0xc0 | (code >> 6)).toString(16)}%${(0x80 | (code & 0x3f)).toString(16)}`;
}

function utf8Raw(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function utf8Encoded(text: string): string {
  return [...utf8Raw(text)].map((byte) => `%${hex(byte)}`).join("");
}

function decodeURIComponentBytes(text: string): string {
  return text.replace(/%(..)/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}
