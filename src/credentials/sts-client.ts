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
import { asAssumeRoleError } from "./sdk-errors.ts";
import { answeredAt, type RawAnswer, readStsAnswer } from "./sts-answer.ts";
import type { StsConnection, StsSettings, StsTimeouts } from "./sts-settings.ts";
import { mustBeUsable } from "./usable.ts";

export type ClientSettings = Pick<
  StsSettings,
  "endpoint" | "useFips" | "useDualstack" | "proxyEnvironment" | "maxSockets" | "log" | "now" | "wallNow"
> &
  Pick<StsTimeouts, "connectMs" | "requestMs">;

const clockToleranceMs = 5 * 60_000;
/** It sees an answer as it came, before the SDK reads a clock, a code or credentials out of it. */
const innermost = { name: "readStsAnswer", step: "deserialize", priority: "low" } as const;

/** When the answer's head came: by STS's own clock, if it has a `Date`, and by our clock for durations. */
type Told = { readonly at: number | undefined; readonly arrivedAt: number };

/** STS by the SDK: one call, with given keys. Rejects with what the SDK throws; only `asAssumeRoleError` may look at that. */
export class StsClient implements StsConnection {
  readonly #settings: ClientSettings;
  readonly #agents: { readonly httpAgent: HttpAgent; readonly httpsAgent: HttpsAgent };
  /** One for each set of keys: an SDK client keeps the keys that it has until they expire, whatever STS says of them. */
  readonly #clients = new WeakMap<HostKeys, STSClient>();
  #clockOffsetMs = 0;
  #clockIsWrong = false;

  constructor(settings: ClientSettings) {
    this.#settings = settings;
    const { proxyEnvironment: proxyEnv, maxSockets = 64 } = settings;
    const agent = { keepAlive: true, maxSockets, proxyEnv };
    this.#agents = { httpAgent: new HttpAgent(agent), httpsAgent: new HttpsAgent(agent) };
  }

  /** How far STS's clock is ahead of ours, by its last answer. */
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
    let told: Told | undefined;
    command.middlewareStack.add(
      this.#reading((seen) => {
        told = seen;
      }),
      innermost,
    );
    const output = await this.#noting(client, client.send(command, { abortSignal: signal }));
    const wire = output.Credentials;
    const role = output.AssumedRoleUser;
    if (!wire?.AccessKeyId || !wire.SecretAccessKey || !wire.SessionToken || !role?.Arn)
      throw new AssumeRoleError(
        "temporary",
        "UnusableAnswer",
        "STS's answer lacks a part of the credentials",
        200,
      );
    // Missing or unreadable, it is no number, and the answer is of no use.
    const expiresAt = wire.Expiration?.getTime() ?? Number.NaN;
    const answeredAtMs = told?.at ?? this.#settings.wallNow() + this.#clockOffsetMs;
    mustBeUsable({ lifetimeMs: expiresAt - answeredAtMs, assumedRoleArn: role.Arn }, request);
    // What lives longer than it was asked to is renewed as if it did not, and a client is told the same: else it would keep it past our renewals.
    const lifetimeMs = Math.min(expiresAt - answeredAtMs, request.durationSeconds * 1000);
    return {
      accessKeyId: wire.AccessKeyId,
      secretAccessKey: wire.SecretAccessKey,
      sessionToken: wire.SessionToken,
      expiresAt: answeredAtMs + lifetimeMs,
      fetchedAt: told?.arrivedAt ?? this.#settings.now(),
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
      this.#reading(() => undefined),
      innermost,
    );
    const output = await this.#noting(client, client.send(command, { abortSignal: end }));
    return output.Arn ?? "";
  }

  close(): void {
    this.#agents.httpAgent.destroy();
    this.#agents.httpsAgent.destroy();
  }

  /** A middleware of the SDK. Rejects where the answer is not STS's; tells when STS answered. */
  #reading(tell: (told: Told) => void) {
    const { requestMs, now } = this.#settings;
    const startedAt = now();
    return <Args, Result extends { response: unknown }>(next: (args: Args) => Promise<Result>) =>
      async (args: Args) => {
        const result = await next(args);
        const answer = rawAnswer(result.response);
        const told = { at: answeredAt(answer.headers), arrivedAt: now() };
        await readStsAnswer(answer, startedAt + requestMs - told.arrivedAt);
        tell(told);
        return result;
      };
  }

  async #noting<Output>(client: STSClient, call: Promise<Output>): Promise<Output> {
    try {
      return await call;
    } catch (error) {
      if (asAssumeRoleError(error, false).code === "Timeout") this.#dropIdle();
      throw error;
    } finally {
      this.#noteClock(client.config.systemClockOffset);
    }
  }

  /** After a time-out: what swallowed one connection (a gateway that was replaced) has swallowed the idle ones too, each good for one more time-out. */
  #dropIdle(): void {
    for (const agent of Object.values(this.#agents))
      for (const sockets of Object.values(agent.freeSockets))
        for (const socket of sockets ?? []) socket.destroy();
  }

  #clientFor(keys: HostKeys, region: string): STSClient {
    const client = this.#clients.get(keys) ?? this.#open(keys, region);
    // What one of them has learnt of STS's time is true for all.
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
      // Not `auto`, which would look for the region in the metadata service on its own.
      defaultsMode: "standard",
      // The cache makes failed calls again: it knows who waits, and how fast all of them together may go.
      maxAttempts: 1,
      retryMode: "standard",
      userAgentAppId: "ec2metaproxy",
      requestHandler: {
        ...this.#agents,
        connectionTimeout: connectMs,
        requestTimeout: requestMs,
        // Without it the SDK writes a warning and goes on waiting.
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
      log.warn({ stsAheadSeconds: seconds }, message);
    } else log.info({ stsAheadSeconds: seconds }, "this host's clock agrees with STS again");
  }
}

/** The SDK promises its middleware nothing about the response; that it is an HTTP answer is seen here. */
function rawAnswer(response: unknown): RawAnswer {
  if (typeof response === "object" && response !== null && "statusCode" in response && "headers" in response)
    // Each field's use checks its type again, and the body is replaced in place, which is how the SDK gets it.
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
