import { withoutNodeAdvice } from "../errors.ts";
import { AssumeRoleError, kindOf } from "./assume-role.ts";

const maxMessageLength = 512;

/**
 * Converts what the SDK threw to an error that may be logged. Only known harmless text is copied: STS's code
 * and message, and the network's error code. Anything else could contain a secret: the parser's error for a
 * truncated answer, for example, quotes the answer.
 * @param isProxys whether a connection that failed was to an HTTP proxy, and not to STS
 */
export function asAssumeRoleError(
  error: unknown,
  aborted: boolean,
  isProxys: (error: ConnectionError) => boolean = () => false,
): AssumeRoleError {
  if (error instanceof AssumeRoleError) return error;
  const name = textOf(error, "name");
  const code = textOf(error, "code");
  // The SDK also reports a reset connection as a TimeoutError, but with its own `code`.
  if (aborted || code === "ETIMEDOUT" || (code === "" && ["TimeoutError", "AbortError"].includes(name))) {
    return new AssumeRoleError("temporary", "Timeout", "STS has not answered in time");
  }
  const message = clean(withoutNodeAdvice(textOf(error, "message")));
  const status = statusOf(error);
  if (
    textOf(error, "$fault") !== "" &&
    status !== undefined &&
    status >= 400 &&
    // The SDK's names for an error without a code.
    !["Error", "Unknown", "UnknownError", "NotFound"].includes(name) &&
    /^[A-Za-z][\w.]{0,127}$/.test(name)
  ) {
    return new AssumeRoleError(kindOf(name, status), name, message, status);
  }
  if (/^[A-Z][A-Z0-9_]{2,63}$/.test(code)) {
    const failure = isProxys(connectionErrorOf(error)) ? "proxy-unreachable" : undefined;
    return new AssumeRoleError("temporary", code, message, status, failure);
  }
  const answered = status === undefined ? "" : ` (status ${status})`;
  return new AssumeRoleError(
    "temporary",
    "UnusableAnswer",
    `STS's answer could not be used${answered}`,
    status,
  );
}

/** Node names what it tried to connect to, or the name that it could not resolve. */
export type ConnectionError = {
  readonly hostname: string;
  readonly address: string;
  readonly port: number | undefined;
};

function connectionErrorOf(error: unknown): ConnectionError {
  // With several addresses, Node reports each attempt in `errors`.
  const attempt = fieldOf(fieldOf(error, "errors"), "0") ?? error;
  const port = fieldOf(attempt, "port");
  return {
    hostname: textOf(attempt, "hostname"),
    address: textOf(attempt, "address"),
    port: typeof port === "number" ? port : undefined,
  };
}

function statusOf(error: unknown): number | undefined {
  const metadata = fieldOf(error, "$metadata");
  const response = fieldOf(error, "$response");
  const status =
    fieldOf(metadata, "httpStatusCode") ?? fieldOf(response, "statusCode") ?? fieldOf(error, "statusCode"); // the last one: a proxy's answer to CONNECT
  return typeof status === "number" ? status : undefined;
}

function textOf(value: unknown, name: string): string {
  const field = fieldOf(value, name);
  return typeof field === "string" ? field : "";
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

/** One line of bounded length: STS quotes its input, and a container controls some of that. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").slice(0, maxMessageLength);
}
