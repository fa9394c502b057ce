/**
 * One answer of the real service that is published somewhere. Names in lower case, in the order on the wire
 * where that is known.
 */
export type Recording = {
  readonly name: string;
  readonly source: string;
  readonly status: number;
  readonly headers: readonly string[];
  /** Headers whose value is the same for every instance. */
  readonly values: Readonly<Record<string, string>>;
  /** Of a JSON body, in order. */
  readonly fields?: readonly string[];
  /** What the proxy's answer has more and less. */
  readonly proxyHas?: readonly string[];
  readonly proxyLacks?: readonly string[];
};

const ttl = "x-aws-ec2-metadata-token-ttl-seconds";
const text = { "content-type": "text/plain", server: "EC2ws" };

/** What the list of roles and the credentials have in common. */
const document = {
  source: "smithy-rs, imds_default_chain_success, 2021",
  status: 200,
  headers: [
    "accept-ranges",
    "connection",
    "content-length",
    "content-type",
    "date",
    "last-modified",
    "server",
    ttl,
  ],
  values: { ...text, "accept-ranges": "none" },
  proxyLacks: ["last-modified"],
};

/** smithy-rs keeps its recordings as JSON objects: their order is not the wire's. */
export const recordings = {
  token: {
    name: "a session token",
    source: "smithy-rs, imds_default_chain_success, 2021",
    status: 200,
    headers: ["connection", "content-length", "content-type", "date", "server", ttl],
    values: { ...text, "content-length": "56", [ttl]: "21600" },
    proxyHas: ["accept-ranges"],
  },
  tokenMethod: {
    name: "GET of the token",
    source: "a terminal log, 2020",
    status: 405,
    headers: ["allow", "content-length", "date", "server", "connection", "content-type"],
    values: { ...text, allow: "OPTIONS, PUT", "content-length": "0" },
  },
  roleList: {
    name: "the list of roles",
    ...document,
  },
  credentials: {
    name: "credentials",
    ...document,
    fields: ["Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"],
  },
  info: {
    name: "iam/info without a token",
    source: "a terminal log, February 2022",
    status: 200,
    headers: [
      "content-type",
      "accept-ranges",
      "last-modified",
      "content-length",
      "date",
      "server",
      "connection",
    ],
    values: { ...text, "accept-ranges": "none" },
    fields: ["Code", "LastUpdated", "InstanceProfileArn", "InstanceProfileId"],
    proxyLacks: ["last-modified"],
  },
  noRole: {
    name: "the list of roles where there is none",
    source: "smithy-rs, imds_no_iam_role, 2021",
    status: 404,
    headers: ["connection", "content-length", "content-type", "date", "server", ttl],
    values: { "content-type": "text/html", "content-length": "339", server: "EC2ws" },
    proxyLacks: [ttl],
  },
  userData: {
    name: "user-data, where it is allowed",
    source: "a terminal log, May 2023",
    status: 200,
    headers: [
      "accept-ranges",
      "content-length",
      "content-type",
      "date",
      "last-modified",
      ttl,
      "connection",
      "server",
    ],
    values: { "accept-ranges": "bytes", "content-type": "application/octet-stream", server: "EC2ws" },
  },
} satisfies Readonly<Record<string, Recording>>;

/** For docs/conformance.md: answer, the real one, the proxy's, why. */
export const differences: readonly (readonly [answer: string, real: string, proxy: string, why: string])[] = [
  [
    "all",
    "`Connection: close`, one request per connection",
    "`Connection: keep-alive` unless the client says `close`",
    "a container is identified once per connection, which then need not be done for each request; HTTP/1.1 clients support both",
  ],
  [
    "all",
    "HTTP/1.1 in logs up to 2022, HTTP/1.0 in one of 2023",
    "HTTP/1.1",
    "the recordings differ among themselves; clients accept both",
  ],
  [
    "all",
    "each of the three logs that show it has another order of headers",
    "`Content-Type` first, `Date` and `Connection` last",
    "no client can depend on an order that the service itself does not keep",
  ],
  [
    "a session token",
    "no `Accept-Ranges`",
    "`Accept-Ranges: none`",
    "all of the proxy's own answers have the same headers; no client reads it there",
  ],
  [
    "list of roles, credentials, `iam/info`",
    "`Last-Modified`",
    "none",
    "it says when EC2 last pushed data to the instance, which the proxy does not know; `LastUpdated` in the document is correct, and no client sends `If-Modified-Since`",
  ],
  [
    "errors to a client with a token",
    "the remaining seconds of the token, as in every other answer",
    "not in errors",
    "no client reads it there: Go and Rust take it from the token response",
  ],
  [
    "`iam/info`",
    "ARN and id (`AIPA…`) of the instance profile",
    "the role's ARN with `instance-profile` in place of `role`, and the role's id (`AROA…`)",
    "there is no instance profile behind a container's role",
  ],
  [
    "400, 401, 403",
    "no recording of the body is known",
    "the 404 page with the other number",
    "no client reads it",
  ],
  [
    "503 while STS fails",
    "no recording is known",
    "`Retry-After`, and `Code` and `Message` as JSON",
    "so that the reason can be seen",
  ],
  [
    "user-data, tags, `public-keys/` and everything else that `passthrough.allow` does not name",
    "read",
    "404, and not in listings",
    "a container is not the host",
  ],
];
