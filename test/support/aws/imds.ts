import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { type ImdsFaults, noImdsFaults } from "./faults.ts";
import { type Address, anyLoopbackPort, listenOn } from "./listen.ts";
import { errorPage } from "./pages.ts";
import { hostSession, Principals } from "./principals.ts";
import { generousReadings, strictReading } from "./readings.ts";
import { Recorder } from "./recorder.ts";
import { HostCredentials } from "./rotation.ts";
import { requestedTtl, SessionTokens } from "./tokens.ts";
import { lookUp, type Page } from "./tree.ts";

export type ImdsOptions = {
  /** Default: any port of 127.0.0.1. */
  readonly listen?: readonly Address[];
  readonly httpTokens?: "required" | "optional";
  /** Accept every odd spelling of a path, as the worst server would. Default true. */
  readonly generous?: boolean;
  /** For benchmarks: the real service closes the connection after every answer. Default false. */
  readonly keepAlive?: boolean;
  /** How many requests to keep for `requests`. Default 1000; 0 keeps none. */
  readonly record?: number;
  /** Shared with STS, so that it knows the host's keys. */
  readonly principals?: Principals;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
};

export type ImdsRequest = {
  readonly at: number;
  readonly method: string;
  /** The request target as received. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
};

export type Imds = {
  readonly url: string;
  readonly urls: readonly string[];
  readonly requests: Recorder<ImdsRequest>;
  readonly credentials: HostCredentials;
  setFaults(faults: Partial<ImdsFaults>): void;
  faults(): ImdsFaults;
  /** Invalidates every token issued so far: 401. */
  invalidateTokens(): void;
  stop(): Promise<void>;
};

/** The instance metadata service of the invented instance. */
export async function startImds(options: ImdsOptions = {}): Promise<Imds> {
  const { httpTokens = "required", generous = true, keepAlive = false, now = Date.now } = options;
  const tokens = new SessionTokens(now);
  const requests = new Recorder<ImdsRequest>(options.record ?? 1000);
  const credentials = new HostCredentials(options.principals ?? new Principals(), hostSession, now);
  const lastModified = new Date(now()).toUTCString();
  let faults: ImdsFaults = noImdsFaults;

  type Extra = Readonly<Record<string, string | number>>;
  const send = (
    res: ServerResponse,
    status: number,
    contentType: string,
    body: string,
    extra: Extra = {},
  ) => {
    if (!keepAlive) res.shouldKeepAlive = false;
    const date = new Date(now()).toUTCString();
    const length = { "Content-Length": Buffer.byteLength(body), Date: date, Server: "EC2ws" };
    res.writeHead(status, { "Content-Type": contentType, ...extra, ...length });
    res.end(body);
  };
  const refuse = (res: ServerResponse, status: number) => send(res, status, "text/html", errorPage(status));

  const issueToken = (req: IncomingMessage, res: ServerResponse, reading: string) => {
    if (req.method !== "PUT") return send(res, 405, "text/plain", "", { Allow: "OPTIONS, PUT" });
    if (!reading.startsWith("latest/") || req.headers["x-forwarded-for"] !== undefined)
      return refuse(res, 403);
    const ttl = requestedTtl(req.headers["x-aws-ec2-metadata-token-ttl-seconds"]);
    if (ttl === undefined) return refuse(res, 400);
    send(res, 200, "text/plain", tokens.issue(ttl), { "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl });
  };

  const readPage = (req: IncomingMessage, res: ServerResponse, readings: readonly string[]) => {
    if (req.method !== "GET" && req.method !== "HEAD") {
      return send(res, 405, "text/plain", "", { Allow: "GET, HEAD" });
    }
    const token = req.headers["x-aws-ec2-metadata-token"];
    const left = typeof token === "string" ? tokens.remainingSeconds(token) : undefined;
    if (left === undefined && (token !== undefined || httpTokens === "required")) return refuse(res, 401);
    if (left !== undefined && req.headers["x-forwarded-for"] !== undefined) return refuse(res, 403);
    const tree = credentials.tree(!faults.noRole);
    const page = mostSecret(readings.map((reading) => lookUp(tree, reading, generous)));
    if (page === undefined) return refuse(res, 404);
    send(res, 200, page.contentType, page.body, {
      "Accept-Ranges": page.contentType === "text/plain" ? "none" : "bytes",
      "Last-Modified": lastModified,
      ...(left === undefined ? {} : { "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": left }),
    });
  };

  const answer = (req: IncomingMessage, res: ServerResponse) => {
    const url = req.url ?? "";
    const readings = generous ? generousReadings(url) : [strictReading(url)];
    const tokenReading = readings.find((reading) => /^[^/]+\/api\/token$/.test(reading));
    return tokenReading === undefined ? readPage(req, res, readings) : issueToken(req, res, tokenReading);
  };

  const handle = (req: IncomingMessage, res: ServerResponse) => {
    const { method = "", url = "", headers } = req;
    requests.add({ at: now(), method, url, headers });
    req.resume();
    if (faults === noImdsFaults || !url.includes(faults.match)) return answer(req, res);
    const { delayMs, dropConnection, hang, status } = faults;
    const act = () => {
      if (dropConnection) req.socket.destroy();
      else if (hang) return;
      else if (status !== 0) refuse(res, status);
      else answer(req, res);
    };
    if (delayMs > 0) setTimeout(act, delayMs).unref();
    else act();
  };

  // A strict parser would reject some of the odd requests, and hide what they lead to.
  const lenient = { insecureHTTPParser: generous, requireHostHeader: false, keepAliveTimeout: 75_000 };
  const listening = await listenOn(options.listen ?? [anyLoopbackPort], lenient, handle);
  return {
    url: listening.urls[0] ?? "",
    urls: listening.urls,
    requests,
    credentials,
    setFaults: (changed) => {
      faults = { ...noImdsFaults, ...changed };
    },
    faults: () => faults,
    invalidateTokens: () => tokens.invalidateAll(),
    stop: () => listening.close(),
  };
}

function mostSecret(pages: readonly (Page | undefined)[]): Page | undefined {
  return pages.find((page) => page?.secret) ?? pages.find((page) => page !== undefined);
}
