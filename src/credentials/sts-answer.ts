import { AssumeRoleError, isKnownCode } from "./assume-role.ts";

/** Longer than any answer of STS: a session token has a few kilobytes. */
const maxAnswerBytes = 65_536;

/** An HTTP answer as the SDK hands it to its middleware. The SDK's own type is `unknown`. */
export type RawAnswer = {
  statusCode: number;
  headers: Record<string, string | undefined>;
  body: unknown;
};

/**
 * Reads the whole answer and checks that it is from STS, before the SDK interprets it. A proxy, a WAF or a
 * captive portal between this host and STS has its own 400, 403, 404, 407 and login page. Mistaken for a
 * refusal by IAM, one of those would leave a container without credentials for minutes after it has gone.
 * Rejects with a temporary AssumeRoleError that names the HTTP status, but nothing of the body: that may
 * contain a secret.
 */
export async function readStsAnswer(answer: RawAnswer, limitMs: number): Promise<void> {
  const { statusCode: status } = answer;
  const type = (answer.headers["content-type"] ?? "no content type").split(";", 1)[0] ?? "";
  const described = `HTTP status ${status}, ${/^[\w.+/ -]{1,64}$/.test(type) ? type : "an unusual content type"}`;
  const body = await readBody(answer.body, limitMs).catch((error: unknown) => {
    const why = error instanceof BodyError ? error.message : "it was cut short";
    throw new AssumeRoleError("temporary", "UnusableAnswer", `STS's answer (${described}): ${why}`, status);
  });
  const kind = judgeDocument(status, body.toString("utf8"));
  if (kind === "cut")
    throw new AssumeRoleError(
      "temporary",
      "UnusableAnswer",
      `STS's answer (${described}): it was cut short`,
      status,
    );
  if (kind === "foreign")
    throw new AssumeRoleError(
      "temporary",
      "NotFromSts",
      `the answer is not from STS (${described}): it comes from something between this host and STS, or sts.endpoint is not STS`,
      status,
    );
  answer.body = body;
}

/**
 * STS's own time, from its `Date` header, in milliseconds since the epoch. Undefined without one, or if the
 * answer comes from an HTTP cache.
 */
export function answeredAt(headers: RawAnswer["headers"]): number | undefined {
  const at = Date.parse(headers.date ?? "");
  return Number.isNaN(at) || headers.age !== undefined ? undefined : at;
}

/** All attributes of the root element in a document that STS itself wrote; the same in every partition. */
const ownNamespace = /^\s+xmlns\s*=\s*(["'])https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/\1\s*$/;
/** Used by AWS's front ends for all services, for calls that have not reached STS. */
const faultNamespace = /^http:\/\/webservices\.amazon\.com\/AWSFault\//;

/**
 * Whether STS sends such a document with this status: a result, or an `ErrorResponse` with a code. Not all
 * services that emulate STS (LocalStack, MinIO) write a namespace, and other services and WAFs send an
 * `ErrorResponse` too. So without STS's own namespace, an error counts only if STS is known to use its code.
 */
export function judgeDocument(status: number, text: string): "ok" | "cut" | "foreign" {
  const start = /^\uFEFF?\s*(?:<\?xml[^>]{0,200}\?>\s*)?<([A-Za-z]{1,64})((?:\s[^<>]{0,512})?)>/.exec(text);
  if (start === null) return "foreign";
  const [, root = "", attributes = ""] = start;
  const isOwn = ownNamespace.test(attributes);
  const namespace = /\sxmlns\s*=\s*["']([^"']*)["']/.exec(attributes)?.[1];
  if (!isOwn && namespace !== undefined && !faultNamespace.test(namespace)) return "foreign";
  const isError = status >= 400 && status <= 599 && root === "ErrorResponse";
  const isResult = status === 200 && /^(AssumeRole|GetCallerIdentity)Response$/.test(root);
  if (!isError && !isResult) return "foreign";
  if (!text.trimEnd().endsWith(`</${root}>`)) return "cut";
  if (isResult) return "ok";
  const code = errorCode(text);
  return code !== undefined && (isOwn || isKnownCode(code)) ? "ok" : "foreign";
}

/**
 * The code of an error document. Undefined if the SDK, which parses the whole document, could find a
 * different one: STS writes neither a second code nor comments.
 */
function errorCode(text: string): string | undefined {
  if (text.includes("<!") || text.match(/<Code[\s>/]/g)?.length !== 1) return undefined;
  const from = text.indexOf("<Error>");
  const error = from === -1 ? "" : text.slice(from, text.indexOf("</Error>", from));
  return /<Code>\s*([A-Za-z][\w.]{0,127})\s*<\/Code>/.exec(error)?.[1];
}

class BodyError extends Error {}

/** The SDK's timeouts end with the answer's headers, so a body that trickles needs its own. */
async function readBody(body: unknown, limitMs: number): Promise<Buffer> {
  if (body === undefined || body === null) return Buffer.alloc(0);
  if (body instanceof Uint8Array) return Buffer.from(body);
  if (!isStream(body)) throw new BodyError("it cannot be read");
  const late = () => body.destroy(new BodyError("it was not complete in time"));
  const timer = setTimeout(late, Math.max(1, limitMs));
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body) {
      if (!(chunk instanceof Uint8Array)) throw new BodyError("it cannot be read");
      length += chunk.length;
      if (length > maxAnswerBytes) throw new BodyError(`it has more than ${maxAnswerBytes} bytes`);
      chunks.push(Buffer.from(chunk));
    }
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks);
}

type Stream = AsyncIterable<unknown> & { destroy(error?: Error): void };

function isStream(value: unknown): value is Stream {
  return (
    typeof value === "object" &&
    value !== null &&
    Symbol.asyncIterator in value &&
    "destroy" in value &&
    typeof value.destroy === "function"
  );
}
