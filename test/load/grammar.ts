import type { Random } from "./random.ts";

/**
 * Texts that resemble the requests of a metadata client, or do not: a grammar of HTTP/1 requests in which
 * each part can be valid, odd, broken, too long or missing. Some texts then have bytes changed.
 */
const methods = [
  "GET",
  "GET",
  "GET",
  "PUT",
  "PUT",
  "HEAD",
  "POST",
  "OPTIONS",
  "TRACE",
  "CONNECT",
  "DELETE",
  "PRI",
  "get",
  "",
  "G\0T",
  "M-SEARCH",
];
const segments = [
  "latest", "1.0", "2021-03-23", "meta-data", "dynamic", "user-data", "api", "token", "iam", "info", "security-credentials", "security-credentials-extended", "load", "placement", "region",
  "instance-id", "network", "interfaces", "macs", "tags", "instance", "identity-credentials", "ec2", "instance-identity", "document", "..", ".", "", "%2e%2e", "%00", "%", "%zz", "\\", ";x", "\xff", "*", "x",
]; // biome-ignore format: a list
const paths = [
  "/latest/api/token", "/latest/meta-data/iam/security-credentials/", "/latest/meta-data/iam/security-credentials/load", "/latest/meta-data/placement/region", "/latest/meta-data/", "/", "*",
  "http://169.254.169.254/latest/meta-data/", "169.254.169.254:80", "/latest/user-data",
]; // biome-ignore format: a list
const names = [
  "Host", "host", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "X-Forwarded-For", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Range", "Upgrade", "Accept-Encoding",
  "TE", "Trailer", "Cookie", "Keep-Alive", "Proxy-Connection", "X", "", " ", "X Y", "\x80", "__proto__", "constructor", "Via",
]; // biome-ignore format: a list
const values = [
  "169.254.169.254", "evil.example", "[fd00:ec2::254]", "21600", "0", "-1", "99999999999999999999", "1e3", "keep-alive", "close", "upgrade", "chunked", "chunked, identity", "gzip, chunked", "100-continue", "200-ok",
  "bytes=0-1", "bytes=-1", "bytes=9-0,1-2", "websocket", "h2c", "", " ", "\t", "\x00", "\xff\xfe", "a\rb", "a\nb", "AQAEAGdZ0000000000000000000000000000000000000000000000==", "$TOKEN",
]; // biome-ignore format: a list
const breaks = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "", "\r\n\r\n", " \r\n"];
const versions = [
  "HTTP/1.1",
  "HTTP/1.1",
  "HTTP/1.1",
  "HTTP/1.0",
  "HTTP/0.9",
  "HTTP/2.0",
  "HTTP/1.2",
  "http/1.1",
  "",
  "HTTP/1.1 x",
];

/** @param token a valid session token of the container that sends it */
export function requestsFrom(random: Random, token: string): string {
  let text = "";
  for (let count = random.percent(80) ? 1 : random.below(7); count >= 0; count--) text += request(random);
  text = text.replaceAll("$TOKEN", token);
  return random.percent(30) ? mutated(random, text) : text;
}

function request(random: Random): string {
  if (random.percent(40)) return plain(random);
  if (random.percent(35)) return bodied(random);
  const end = () => random.pick(breaks);
  let text = `${random.pick(methods)}${random.percent(95) ? " " : "\t"}${target(random)} ${random.pick(versions)}${end()}`;
  if (random.percent(70)) text += `Host: 169.254.169.254${end()}`;
  for (let count = random.below(6); count > 0; count--) {
    const value = random.percent(2)
      ? random.pick(values).repeat(1 + random.below(2_000))
      : random.pick(values);
    text += `${random.pick(names)}${random.percent(95) ? ":" : ""} ${value}${end()}`;
  }
  text += end();
  if (random.percent(30)) text += body(random);
  return text;
}

/** A valid request, so that odd ones meet a connection in every state. */
function plain(random: Random): string {
  const token = random.percent(70) ? "X-aws-ec2-metadata-token: $TOKEN\r\n" : "";
  if (random.percent(25))
    return "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n";
  return `${random.pick(["GET", "HEAD"])} ${target(random)} HTTP/1.1\r\nHost: 169.254.169.254\r\n${token}\r\n`;
}

/** A request with valid framing and a body, which may be empty, in each of the ways of HTTP/1.1. */
function bodied(random: Random): string {
  const method = random.pick(["GET", "PUT", "PUT", "HEAD", "POST"]);
  const expect = random.percent(30) ? "Expect: 100-continue\r\n" : "";
  const head = `${method} ${target(random)} HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token: $TOKEN\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n${expect}`;
  const size = random.pick([0, 0, 1, 5, 100, 4_096, 70_000]);
  if (random.percent(40)) return `${head}Content-Length: ${size}\r\n\r\n${"x".repeat(size)}`;
  const extension = random.percent(20) ? `;${"e".repeat(random.below(200))}=1` : "";
  const chunk = `${random.pick(["1", "01", "1;x", "1 "])}\r\nx\r\n`;
  const chunks = chunk.repeat(random.pick([0, 0, 0, 1, 3, 2_000]));
  const trailers = random.percent(20)
    ? "X-Trailer: x\r\n".repeat(1 + random.below(random.percent(5) ? 2_000 : 4))
    : "";
  const end = random.percent(90) ? `0${extension}\r\n${trailers}\r\n` : "";
  return `${head}Transfer-Encoding: ${random.pick(["chunked", "Chunked", "chunked", "gzip, chunked"])}\r\n\r\n${chunks}${end}`;
}

function target(random: Random): string {
  if (random.percent(40)) return random.pick(paths);
  let path = "";
  for (let count = 1 + random.below(random.percent(3) ? 500 : 7); count > 0; count--)
    path += `/${random.pick(segments)}`;
  return random.percent(10) ? `${path}?${random.pick(segments)}` : path;
}

function body(random: Random): string {
  switch (random.below(4)) {
    case 0:
      return `${random.below(40).toString(16)}\r\n${"x".repeat(random.below(40))}\r\n0\r\n\r\n`;
    case 1:
      return `${random.pick(["-1", "ffffffffffffffff", "zz", "5;a=b", ""])}\r\nabc\r\n`;
    case 2:
      return "x".repeat(random.below(3_000));
    default:
      return plain(random);
  }
}

function mutated(random: Random, text: string): string {
  let changed = text;
  for (let count = 1 + random.below(4); count > 0; count--) {
    const at = random.below(changed.length + 1);
    const byte = String.fromCharCode(random.below(256));
    switch (random.below(4)) {
      case 0:
        changed = changed.slice(0, at) + byte + changed.slice(at + 1);
        break;
      case 1:
        changed = changed.slice(0, at) + byte + changed.slice(at);
        break;
      case 2:
        changed = changed.slice(0, at) + changed.slice(at + 1 + random.below(20));
        break;
      default:
        changed = changed.slice(0, at) + changed.slice(random.below(changed.length + 1));
    }
  }
  return changed;
}
