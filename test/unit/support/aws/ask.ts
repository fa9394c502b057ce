import { once } from "node:events";
import { type IncomingHttpHeaders, request } from "node:http";

export type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
};

type AskOptions = {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
};

/** Sends one request with its path unchanged: no URL parser between the test and the wire. */
export async function ask(
  base: string,
  path: string,
  { method = "GET", headers = {}, timeoutMs = 5000 }: AskOptions = {},
): Promise<Answer> {
  const { hostname, port } = new URL(base);
  const sent = request({
    host: hostname.replace(/^\[|\]$/g, ""),
    port,
    path,
    method,
    headers: { ...headers },
    agent: false,
    signal: AbortSignal.timeout(timeoutMs),
  });
  sent.end();
  const [response] = await once(sent, "response");
  let body = "";
  for await (const chunk of response.setEncoding("latin1")) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}

/** Requests an IMDSv2 session token as an SDK does. */
export async function sessionToken(imds: string, ttlSeconds = 21_600): Promise<string> {
  const headers = { "X-aws-ec2-metadata-token-ttl-seconds": String(ttlSeconds) };
  return (await ask(imds, "/latest/api/token", { method: "PUT", headers })).body;
}

/** GET with a new token. */
export async function read(imds: string, path: string): Promise<Answer> {
  return ask(imds, path, { headers: { "X-aws-ec2-metadata-token": await sessionToken(imds) } });
}
