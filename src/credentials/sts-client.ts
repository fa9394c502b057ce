import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import {
  AssumeRoleCommand,
  type AssumeRoleCommandInput,
  GetCallerIdentityCommand,
  STSClient,
} from "@aws-sdk/client-sts";
import type { RoleRequest } from "../roles/grant.ts";
import { AssumeRoleError } from "./assume-role.ts";
import type { Credentials } from "./document.ts";
import type { HostKeys } from "./host-credentials.ts";
import { asAssumeRoleError, type ConnectionError } from "./sdk-errors.ts";
import { answeredAt, type RawAnswer, readStsAnswer } from "./sts-answer.ts";
import type { StsConnection, StsSettings, StsTimeouts } from "./sts-settings.ts";
import { mustBeUsable } from "./usable.ts";

export type ClientSettings = Pick<
  StsSettings,
  | "endpoint"
  | "useFips"
  | "useDualstack"
  | "proxyEnvironment"
  | "caBundle"
  | "maxSockets"
  | "log"
  | "now"
  | "wallNow"
> &
  Pick<StsTimeouts, "connectMs" | "requestMs">;

const clockToleranceMs = 5 * 60_000;
/** The middleware sees an answer before the SDK reads a time, an error code or credentials from it. */
const innermost = { name: "readStsAnswer", step: "deserialize", priority: "low" } as const;

/** When the answer's headers arrived. */
type AnswerTime = {
  /** By STS's clock; undefined without a `Date` header. */
  readonly sts: number | undefined;
  /** By our monotonic clock. */
  readonly own: number;
};

/** Calls STS through the SDK. Rejects with an AssumeRoleError. */
export class StsClient implements StsConnection {
  readonly #settings: ClientSettings;
  readonly #agents: { readonly httpAgent: HttpAgent; readonly httpsAgent: HttpsAgent };
  /** One per set of keys: an SDK client uses its keys until they expire, even if STS rejects them. */
  readonly #clients = new WeakMap<HostKeys, STSClient>();
  #clockOffsetMs = 0;
  #clockIsWrong = false;

  constructor(settings: ClientSettings) {
    this.#settings = settings;
    const { proxyEnvironment: proxyEnv, caBundle: ca, maxSockets = 64 } = settings;
    const agent = { keepAlive: true, maxSockets, proxyEnv };
    const httpsAgent = new HttpsAgent({ ...agent, ...(ca !== undefined && { ca }) });
    this.#agents = { httpAgent: new HttpAgent(agent), httpsAgent };
  }

  /** How far STS's clock is ahead of our wall clock, as of its last answer. */
  get clockOffsetMs(): number {
    return this.#clockOffsetMs;
  }

  async assumeRole(
    request: RoleRequest,
    keys: HostKeys,
    region: string,
    signal: AbortSignal,
  ): Promise<Credentials> {
    const client = this.#clientFor(keys, region);
    const command = new AssumeRoleCommand(inputOf(request));
    let answered: AnswerTime | undefined;
    command.middlewareStack.add(
      this.#readAnswer((time) => {
        answered = time;
      }),
      innermost,
    );
    const output = await this.#noteOutcome(client, client.send(command, { abortSignal: signal }));
    const wire = output.Credentials;
    const role = output.AssumedRoleUser;
    if (!wire?.AccessKeyId || !wire.SecretAccessKey || !wire.SessionToken || !role?.Arn)
      throw new AssumeRoleError(
        "temporary",
        "UnusableAnswer",
        "STS's answer lacks part of the credentials",
        200,
      );
    // NaN if missing or unreadable, which mustBeUsable rejects.
    const expiresAt = wire.Expiration?.getTime() ?? Number.NaN;
    const answeredAtMs = answered?.sts ?? this.#settings.wallNow() + this.#clockOffsetMs;
    mustBeUsable({ lifetimeMs: expiresAt - answeredAtMs, assumedRoleArn: role.Arn }, request);
    // A lifetime beyond the requested one is cut, for renewals and for the expiration that clients get:
    // otherwise they would keep the credentials past our renewals.
    const lifetimeMs = Math.min(expiresAt - answeredAtMs, request.durationSeconds * 1000);
    return {
      accessKeyId: wire.AccessKeyId,
      secretAccessKey: wire.SecretAccessKey,
      sessionToken: wire.SessionToken,
      expiresAt: answeredAtMs + lifetimeMs,
      fetchedAt: answered?.own ?? this.#settings.now(),
      lifetimeMs,
      accountId: role.Arn.split(":")[4] ?? "",
      assumedRoleArn: role.Arn,
      assumedRoleId: role.AssumedRoleId ?? "",
    };
  }

  async callerArn(keys: HostKeys, region: string, end: AbortSignal): Promise<string> {
    const client = this.#clientFor(keys, region);
    const command = new GetCallerIdentityCommand({});
    command.middlewareStack.add(
      this.#readAnswer(() => undefined),
      innermost,
    );
    const output = await this.#noteOutcome(client, client.send(command, { abortSignal: end }));
    return output.Arn ?? "";
  }

  close(): void {
    this.#agents.httpAgent.destroy();
    this.#agents.httpsAgent.destroy();
  }

  /** A middleware for the SDK. Rejects if the answer is not from STS; reports when STS answered. */
  #readAnswer(onAnswer: (time: AnswerTime) => void) {
    const { requestMs, now } = this.#settings;
    const startedAt = now();
    return <Args, Result extends { response: unknown }>(next: (args: Args) => Promise<Result>) =>
      async (args: Args) => {
        const result = await next(args);
        const answer = rawAnswer(result.response);
        const time = { sts: answeredAt(answer.headers), own: now() };
        await readStsAnswer(answer, startedAt + requestMs - time.own);
        onAnswer(time);
        return result;
      };
  }

  /** Notes what a call shows: STS's time, and after a timeout that idle connections may hang too. */
  async #noteOutcome<Output>(client: STSClient, call: Promise<Output>): Promise<Output> {
    try {
      return await call;
    } catch (error) {
      const known = asAssumeRoleError(error, false, (at) => this.#isProxys(at));
      if (known.code === "Timeout") this.#dropIdle();
      throw known;
    } finally {
      this.#noteClock(client.config.systemClockOffset);
    }
  }

  /**
   * After a timeout, whatever made one connection hang (a gateway that was replaced, for example) has
   * probably done the same to the idle ones, and each would cost another timeout.
   */
  #dropIdle(): void {
    for (const agent of Object.values(this.#agents))
      for (const sockets of Object.values(agent.freeSockets))
        for (const socket of sockets ?? []) socket.destroy();
  }

  /** A name that was resolved is no longer in the error, but a proxy's port is seldom STS's. */
  #isProxys({ hostname, address, port }: ConnectionError): boolean {
    const { proxyEnvironment, endpoint } = this.#settings;
    const sts = endpoint === undefined ? undefined : URL.parse(endpoint);
    const stsPort = portOf(sts) ?? 443;
    return [proxyEnvironment.HTTPS_PROXY, proxyEnvironment.HTTP_PROXY].some((text) => {
      const proxy = text === undefined ? null : URL.parse(text);
      if (proxy === null || proxy.host === sts?.host) return false;
      const host = proxy.hostname.replace(/^\[|\]$/g, "");
      return hostname === host || (port === portOf(proxy) && (address === host || port !== stsPort));
    });
  }

  #clientFor(keys: HostKeys, region: string): STSClient {
    const client = this.#clients.get(keys) ?? this.#open(keys, region);
    // The offset that one client has learnt holds for all.
    client.config.systemClockOffset = this.#clockOffsetMs;
    return client;
  }

  #open(keys: HostKeys, region: string): STSClient {
    const { endpoint, useFips, useDualstack, connectMs, requestMs } = this.#settings;
    const { accessKeyId, secretAccessKey, sessionToken } = keys;
    const client = new STSClient({
      region,
      ...(endpoint === undefined ? {} : { endpoint }),
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
      useFipsEndpoint: useFips,
      useDualstackEndpoint: useDualstack,
      // Not `auto`, which would read the region from the metadata service.
      defaultsMode: "standard",
      // The cache retries: it knows which calls clients wait for, and how fast all calls together may go.
      maxAttempts: 1,
      retryMode: "standard",
      userAgentAppId: "ec2metaproxy",
      requestHandler: {
        ...this.#agents,
        connectionTimeout: connectMs,
        requestTimeout: requestMs,
        // Without this, the SDK logs a warning and keeps waiting.
        throwOnRequestTimeout: true,
      },
    });
    this.#clients.set(keys, client);
    return client;
  }

  #noteClock(offsetMs: number): void {
    this.#clockOffsetMs = offsetMs;
    const wrong = Math.abs(offsetMs) > clockToleranceMs;
    if (wrong === this.#clockIsWrong) return;
    this.#clockIsWrong = wrong;
    const seconds = Math.trunc(offsetMs / 1000) + 0; // + 0: no "-0" in the log
    const { log } = this.#settings;
    if (wrong) {
      const message =
        "this host's clock is wrong by more than five minutes: calls to STS are corrected, containers' calls to AWS may fail";
      log.warn({ code: "clock-off", stsAheadSeconds: seconds }, message);
    } else log.info({ stsAheadSeconds: seconds }, "this host's clock agrees with STS again");
  }
}

function portOf(url: URL | null | undefined): number | undefined {
  if (url === null || url === undefined) return undefined;
  return url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
}

/** The SDK's middleware gets the response as `unknown`; this checks that it is an HTTP answer. */
function rawAnswer(response: unknown): RawAnswer {
  if (typeof response === "object" && response !== null && "statusCode" in response && "headers" in response)
    // Every use of a field checks its type again. The same object is returned: the SDK reads the body from
    // it.
    return response as RawAnswer;
  throw new AssumeRoleError("temporary", "UnusableAnswer", "STS's answer is not an HTTP answer");
}

function inputOf(request: RoleRequest): AssumeRoleCommandInput {
  const { policy, policyArns, tags, externalId, sourceIdentity } = request;
  return {
    RoleArn: request.roleArn,
    RoleSessionName: request.sessionName,
    DurationSeconds: request.durationSeconds,
    ...(policy === undefined ? {} : { Policy: policy }),
    ...(policyArns === undefined ? {} : { PolicyArns: policyArns.map((arn) => ({ arn })) }),
    ...(tags === undefined ? {} : { Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) }),
    ...(externalId === undefined ? {} : { ExternalId: externalId }),
    ...(sourceIdentity === undefined ? {} : { SourceIdentity: sourceIdentity }),
  };
}
