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
import type { StsConnection, StsSettings, StsTimeouts } from "./sts-settings.ts";

export type ClientSettings = Pick<
  StsSettings,
  "endpoint" | "useFips" | "useDualstack" | "proxyEnvironment" | "maxSockets" | "log" | "now"
> &
  Pick<StsTimeouts, "connectMs" | "requestMs">;

const clockToleranceMs = 5 * 60_000;

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
    const client = this.#clients.get(keys) ?? this.#open(keys, region);
    try {
      const output = await client.send(new AssumeRoleCommand(inputOf(request)), { abortSignal: signal });
      this.#noteClock(client.config.systemClockOffset);
      const wire = output.Credentials;
      const role = output.AssumedRoleUser;
      const expiresAt = wire?.Expiration?.getTime();
      if (!wire?.AccessKeyId || !wire.SecretAccessKey || !wire.SessionToken || !role?.Arn || !expiresAt)
        throw new AssumeRoleError(
          "temporary",
          "UnusableAnswer",
          "STS's answer lacks a part of the credentials",
        );
      const left = expiresAt - (Date.now() + this.#clockOffsetMs);
      return {
        accessKeyId: wire.AccessKeyId,
        secretAccessKey: wire.SecretAccessKey,
        sessionToken: wire.SessionToken,
        expiresAt,
        fetchedAt: this.#settings.now(),
        lifetimeMs: Math.max(0, Math.min(left, request.durationSeconds * 1000)),
        accountId: role.Arn.split(":")[4] ?? "",
        assumedRoleArn: role.Arn,
        assumedRoleId: role.AssumedRoleId ?? "",
      };
    } catch (error) {
      this.#noteClock(client.config.systemClockOffset);
      throw error;
    }
  }

  async callerArn(keys: HostKeys, region: string, end: AbortSignal): Promise<string> {
    const client = this.#clients.get(keys) ?? this.#open(keys, region);
    const output = await client.send(new GetCallerIdentityCommand({}), { abortSignal: end });
    this.#noteClock(client.config.systemClockOffset);
    return output.Arn ?? "";
  }

  close(): void {
    this.#agents.httpAgent.destroy();
    this.#agents.httpsAgent.destroy();
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
      systemClockOffset: this.#clockOffsetMs,
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
