import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";

/** An answer of the instance metadata service. */
export type MetadataAnswer = {
  readonly status: number;
  readonly body: string;
  /** The service's own time, milliseconds since the epoch; undefined where it does not tell it. */
  readonly at: number | undefined;
};

const tokenTtlSeconds = 21_600;
const longestBody = 65_536;

/**
 * The host's own questions to the true instance metadata service, by IMDSv2 only: a service that knows no tokens is not asked for the
 * host's credentials.
 *
 * The SDK has a client for this, but it can be told where the service is only by the environment
 * (AWS_EC2_METADATA_SERVICE_ENDPOINT), which on a host of ours may well name this very proxy; it may fall back to IMDSv1, and
 * a proxy for outgoing HTTP could get in between. Here the address is the configuration's, and nothing else is asked.
 */
export class InstanceMetadata {
  readonly #endpoint: URL;
  readonly #timeoutMs: number;
  readonly #isTls: boolean;
  /** No keep-alive: a question every few hours. An agent of its own: none that was told of HTTP_PROXY. */
  readonly #agent: HttpAgent;
  #token: string | undefined;

  /** `endpoint`: `http://169.254.169.254`. `timeoutMs`: for each request, from the connection to the last byte. */
  constructor(endpoint: string, timeoutMs: number) {
    this.#endpoint = new URL(endpoint);
    this.#timeoutMs = timeoutMs;
    this.#isTls = this.#endpoint.protocol === "https:";
    this.#agent = this.#isTls ? new HttpsAgent({ keepAlive: false }) : new HttpAgent({ keepAlive: false });
  }

  /** `path` begins with `/latest/`. Rejects if there is no answer; a status other than 200 is an answer. */
  async get(path: string): Promise<MetadataAnswer> {
    const answer = await this.#ask("GET", path, {
      "x-aws-ec2-metadata-token": await this.#freshToken(false),
    });
    if (answer.status !== 401) return answer;
    // The token is older than its time, or the instance was stopped and started.
    return this.#ask("GET", path, { "x-aws-ec2-metadata-token": await this.#freshToken(true) });
  }

  close(): void {
    this.#agent.destroy();
  }

  async #freshToken(renew: boolean): Promise<string> {
    if (this.#token !== undefined && !renew) return this.#token;
    const { status, body } = await this.#ask("PUT", "/latest/api/token", {
      "x-aws-ec2-metadata-token-ttl-seconds": String(tokenTtlSeconds),
      "content-length": "0",
    });
    if (status !== 200) throw new Error(`asking for a session token: status ${status}`);
    // It goes into a header.
    if (!/^[\x21-\x7e]{1,1024}$/.test(body)) throw new Error("asking for a session token: it is no token");
    this.#token = body;
    return body;
  }

  #ask(method: string, path: string, headers: Readonly<Record<string, string>>): Promise<MetadataAnswer> {
    const { hostname, port } = this.#endpoint;
    const send = this.#isTls ? requestHttps : requestHttp;
    const defaultPort = this.#isTls ? 443 : 80;
    return new Promise((resolve, reject) => {
      const req = send({
        agent: this.#agent,
        method,
        // URL keeps the brackets of an IPv6 address, sockets do not want them.
        host: hostname.replace(/^\[|\]$/g, ""),
        port: port === "" ? defaultPort : Number(port),
        path,
        headers,
      });
      // One limit for all of it: an answer that trickles must not last longer than one that never begins.
      const late = new Error(`no whole answer in ${this.#timeoutMs} ms`);
      const timer = setTimeout(() => {
        reject(late);
        req.destroy(late);
      }, this.#timeoutMs);
      req.on("response", (res) => readBody(res).then((body) => resolve(answerOf(res, body)), reject));
      req.on("error", reject);
      req.on("close", () => clearTimeout(timer));
      req.end();
    });
  }
}

function answerOf(res: IncomingMessage, body: string): MetadataAnswer {
  const at = Date.parse(res.headers.date ?? "");
  return { status: res.statusCode ?? 0, body, at: Number.isNaN(at) ? undefined : at };
}

async function readBody(res: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of res.setEncoding("utf8")) {
    body += String(chunk);
    if (body.length > longestBody) throw new Error(`reading the answer: over ${longestBody} characters`);
  }
  return body;
}
