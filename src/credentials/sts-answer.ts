import { AssumeRoleError, isKnownCode } from "./assume-role.ts";

/** More than the longest answer of STS: a session token has a few kilobytes. */
const longestAnswer = 65_536;

/** What the SDK hands over of an HTTP answer before it reads it. Its types promise less. */
export type RawAnswer = {
  statusCode: number;
  headers: Record<string, string | undefined>;
  body: unknown;
};

/**
 * Reads the whole answer and makes sure that it is STS's, before the SDK makes something of it. Between this host and STS there may be a
 * proxy, a WAF or a captive portal, and each has its own 400, 403, 404, 407 and login page: taken for a refusal by IAM, one
 * of those would keep a container without credentials for minutes after it is over.
 * Rejects with a temporary AssumeRoleError that names the HTTP status and nothing of the body, which may hold a secret.
 */
export async function readStsAnswer(answer: RawAnswer, limitMs: number): Promise<void> {
  const { statusCode: status } = answer;
  const type = (answer.headers["content-type"] ?? "no content type").split(";", 1)[0] ?? "";
  const described = `HTTP status ${status}, ${/^[\w.+/ -]{1,64}$/.test(type) ? type : "an odd content type"}`;
  const body = await readBody(answer.body, limitMs).catch((error: unknown) => {
    const why = error instanceof BodyError ? error.message : "it ended in the middle";
    throw new AssumeRoleError("temporary", "UnusableAnswer", `STS's answer (${described}): ${why}`, status);
  });
  const kind = judgeDocument(status, body.toString("utf8"));
  if (kind === "cut")
    throw new AssumeRoleError(
      "temporary",
      "UnusableAnswer",
      `STS's answer (${described}): it ended in the middle`,
      status,
    );
  if (kind === "foreign")
    throw new AssumeRoleError(
      "temporary",
      "NotFromSts",
      `the answer is not STS's (${described}): something between this host and STS gave it, or sts.endpoint is not STS`,
      status,
    );
  answer.body = body;
}

/** STS's own time, from its `Date` header, as milliseconds since the epoch. Undefined without one, or where a cache has kept the answer. */
export function answeredAt(headers: RawAnswer["headers"]): number | undefined {
  const at = Date.parse(headers.date ?? "");
  return Number.isNaN(at) || headers.age !== undefined ? undefined : at;
}

/** The whole of what stands in the root's tag where STS itself wrote the document, in every partition. */
const ownNamespace = /^\s+xmlns\s*=\s*(["'])https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/\1\s*$/;
/** What AWS's front ends write for all services, before STS has seen the call. */
const faultNamespace = /^http:\/\/webservices\.amazon\.com\/AWSFault\//;

/**
 * Whether a text is what STS says with this status: a result, or `ErrorResponse` with a code. The services that stand in for STS
 * (LocalStack, MinIO) do not all write a namespace, and other services and WAFs write an `ErrorResponse` as well: without STS's own
 * namespace, an error counts only with a code that STS is known to give.
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

/** The code of an error document. Undefined where the SDK, which parses the whole, could find another one in it: STS writes neither a second code nor comments. */
function errorCode(text: string): string | undefined {
  if (text.includes("<!") || text.match(/<Code[\s>/]/g)?.length !== 1) return undefined;
  const from = text.indexOf("<Error>");
  const error = from === -1 ? "" : text.slice(from, text.indexOf("</Error>", from));
  return /<Code>\s*([A-Za-z][\w.]{0,127})\s*<\/Code>/.exec(error)?.[1];
}

class BodyError extends Error {}

/** The SDK's time limits end with the answer's head: a body that trickles needs one of its own. */
async function readBody(body: unknown, limitMs: number): Promise<Buffer> {
  if (body === undefined || body === null) return Buffer.alloc(0);
  if (body instanceof Uint8Array) return Buffer.from(body);
  if (!isStream(body)) throw new BodyError("it cannot be read");
  const late = () => body.destroy(new BodyError("it was not whole in time"));
  const timer = setTimeout(late, Math.max(1, limitMs));
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body) {
      if (!(chunk instanceof Uint8Array)) throw new BodyError("it cannot be read");
      length += chunk.length;
      if (length > longestAnswer) throw new BodyError(`it has more than ${longestAnswer} bytes`);
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
