import { exitCodes, OperatorError } from "../errors.ts";
import type { RoleRequest } from "../roles/grant.ts";
import type { HostKeys } from "./host-credentials.ts";
import { HostSts } from "./host-sts.ts";
import type { ClientSettings, StsClient } from "./sts-client.ts";
import { defaultTimeouts, type StsConnection, type StsSettings } from "./sts-settings.ts";

export type { HostSts } from "./host-sts.ts";
export type { HostIdentity, StsSettings } from "./sts-settings.ts";

/** STS as this host may use it. `close` it in the end: connections stay open. */
export function openSts(settings: StsSettings): HostSts {
  if (settings.endpoint !== undefined && (settings.useFips || settings.useDualstack)) {
    const hint = "Write the FIPS or dual-stack address itself as sts.endpoint, or leave sts.endpoint out.";
    const message =
      "sts.useFips and sts.useDualstack choose an AWS endpoint, and sts.endpoint names one already";
    throw new OperatorError(message, { hint, exitCode: exitCodes.configuration });
  }
  return new HostSts(settings, new StsOnDemand({ ...settings, ...defaultTimeouts, ...settings.timeouts }));
}

/** Loads the SDK at the first call: that takes tens of milliseconds, which a service that starts has better uses for. */
class StsOnDemand implements StsConnection {
  readonly #settings: ClientSettings;
  #loading: Promise<StsClient> | undefined;
  #client: StsClient | undefined;
  #closed = false;

  constructor(settings: ClientSettings) {
    this.#settings = settings;
  }

  get clockOffsetMs(): number {
    return this.#client?.clockOffsetMs ?? 0;
  }

  async assumeRole(request: RoleRequest, keys: HostKeys, region: string, end: AbortSignal) {
    return (await this.#load()).assumeRole(request, keys, region, end);
  }

  async callerArn(keys: HostKeys, region: string, end: AbortSignal) {
    return (await this.#load()).callerArn(keys, region, end);
  }

  close(): void {
    this.#closed = true;
    this.#client?.close();
  }

  #load(): Promise<StsClient> {
    this.#loading ??= this.#loadNow().catch((error: unknown) => {
      // Too many open files, perhaps: the next call may have more luck.
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  async #loadNow(): Promise<StsClient> {
    const { StsClient } = await import("./sts-client.ts");
    this.#client = new StsClient(this.#settings);
    if (this.#closed) this.#client.close();
    return this.#client;
  }
}
