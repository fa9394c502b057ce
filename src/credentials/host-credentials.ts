import { explain } from "../errors.ts";
import { AssumeRoleError } from "./assume-role.ts";
import { InstanceMetadata, type MetadataAnswer } from "./instance-metadata.ts";

/** The keys that sign calls to STS. The same object until they are replaced. */
export type HostKeys = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  /** By our clock for durations; undefined for keys that do not expire. */
  readonly expiresAt: number | undefined;
};

/** EC2 has new ones ready at least five minutes before the old end. */
const renewBeforeMs = 10 * 60_000;
/** Near the end, and when STS refuses, IMDS is asked again, but no more often than this. */
const leastPauseMs = 5_000;
/** What an instance has from its profile lives for six hours; what claims more, or says nothing, is read again after so long. */
const longestMs = 6 * 3_600_000;
const regionPath = "/latest/meta-data/placement/region";
const listPath = "/latest/meta-data/iam/security-credentials/";

/**
 * Who this host is to AWS: keys from the environment, else the instance profile. Nothing else is looked at: a stray AWS_PROFILE, a
 * credentials file or AWS_CONTAINER_CREDENTIALS_* (the proxy itself may run as an ECS task) would silently make the host somebody else.
 */
export class HostCredentials {
  readonly source: "environment" | "instance profile";
  readonly #metadata: InstanceMetadata;
  readonly #endpoint: string;
  readonly #now: () => number;
  readonly #wallNow: () => number;
  #keys: HostKeys | undefined;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<HostKeys> | undefined;
  #region: string | undefined;
  #readingRegion: Promise<string> | undefined;

  constructor(options: {
    readonly metadataEndpoint: string;
    readonly environmentKeys: HostKeys | undefined;
    readonly timeoutMs: number;
    readonly now: () => number;
    readonly wallNow: () => number;
  }) {
    this.source = options.environmentKeys === undefined ? "instance profile" : "environment";
    this.#metadata = new InstanceMetadata(options.metadataEndpoint, options.timeoutMs);
    this.#endpoint = options.metadataEndpoint;
    this.#keys = options.environmentKeys;
    this.#now = options.now;
    this.#wallNow = options.wallNow;
  }

  /** For status lines; undefined before the first call. */
  get accessKeyId(): string | undefined {
    return this.#keys?.accessKeyId;
  }

  async current(): Promise<HostKeys> {
    const keys = this.#keys;
    if (keys === undefined) return this.#read();
    if (keys.expiresAt === undefined || keys.expiresAt - this.#now() > renewBeforeMs) return keys;
    if (this.#now() - this.#readAt < leastPauseMs) return keys;
    // Credentials at their end are still better than none: STS decides.
    return this.#read().catch(() => keys);
  }

  /** STS did not like `rejected`: reads again, unless that was done a moment ago. True if there are other keys now. */
  async replaced(rejected: HostKeys): Promise<boolean> {
    if (this.#keys !== rejected) return true;
    if (this.source === "environment" || this.#now() - this.#readAt < leastPauseMs) return false;
    const keys = await this.#read().catch(() => rejected);
    return keys.accessKeyId !== rejected.accessKeyId;
  }

  /** What an operator should know of keys that STS did not like; empty where there is nothing to say. */
  complaint({ expiresAt }: HostKeys): string {
    if (expiresAt === undefined || expiresAt > this.#now()) return "";
    const seconds = Math.round((this.#now() - expiresAt) / 1000);
    return ` (the host's credentials at ${this.#endpoint} expired ${seconds} s ago, and there are no newer ones)`;
  }

  /** The instance's own region, e.g. `eu-west-1`. */
  async region(): Promise<string> {
    if (this.#region !== undefined) return this.#region;
    this.#readingRegion ??= this.#readRegion().finally(() => {
      this.#readingRegion = undefined;
    });
    return this.#readingRegion;
  }

  async #readRegion(): Promise<string> {
    const region = (await this.#get(regionPath)).body.trim();
    // It becomes a part of the host name that is sent signed calls: what is no region must not.
    if (!/^[a-z]{2,8}(-[a-z0-9]{1,16}){1,5}$/.test(region))
      throw unavailable(`reading ${this.#endpoint}${regionPath}: the answer is no region`);
    this.#region = region;
    return region;
  }

  close(): void {
    this.#metadata.close();
  }

  #read(): Promise<HostKeys> {
    this.#reading ??= this.#readNow().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readNow(): Promise<HostKeys> {
    this.#readAt = this.#now();
    const role = (await this.#get(listPath)).body.split("\n", 1)[0]?.trim() ?? "";
    if (role === "")
      throw unavailable(`${this.#endpoint} lists no role: the instance has no instance profile`);
    const answer = await this.#get(`${listPath}${encodeURIComponent(role)}`);
    const parsed = parseKeys(answer.body);
    if (parsed === undefined)
      throw unavailable(`${this.#endpoint} has no credentials for the instance's role ${role}`);
    // By the service's own clock where it tells it: the host's may be wrong, and may be set while the keys live.
    const leftMs = parsed.expiration - (answer.at ?? this.#wallNow());
    const expiresAt = this.#now() + (leftMs < longestMs ? leftMs : longestMs);
    const { accessKeyId, secretAccessKey, sessionToken } = parsed;
    const keys = { accessKeyId, secretAccessKey, sessionToken, expiresAt };
    // The same keys stay the same object, so that who compares sees no change.
    if (this.#keys?.accessKeyId !== keys.accessKeyId) this.#keys = keys;
    return this.#keys ?? keys;
  }

  async #get(path: string): Promise<MetadataAnswer> {
    const answer = await this.#metadata.get(path).catch((error: unknown) => {
      throw unavailable(`reading ${this.#endpoint}${path}: ${explain(error)}`);
    });
    if (answer.status === 200) return answer;
    const hint =
      answer.status === 403
        ? " (metadata is turned off for this instance, or metadataEndpoint names this proxy)"
        : "";
    throw unavailable(`reading ${this.#endpoint}${path}: status ${answer.status}${hint}`);
  }
}

function unavailable(message: string): AssumeRoleError {
  return new AssumeRoleError("temporary", "HostCredentialsUnavailable", message);
}

/** Undefined for anything that is not a whole and successful answer; its text is never shown, since it may hold a secret. */
function parseKeys(
  body: string,
): (Omit<HostKeys, "expiresAt"> & { readonly expiration: number }) | undefined {
  let wire: unknown;
  try {
    wire = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (typeof wire !== "object" || wire === null) return undefined;
  const field = (name: string): string => {
    const value: unknown = Reflect.get(wire, name);
    return typeof value === "string" ? value : "";
  };
  const keys = {
    accessKeyId: field("AccessKeyId"),
    secretAccessKey: field("SecretAccessKey"),
    sessionToken: field("Token"),
    // NaN where there is none, or one that cannot be read.
    expiration: Date.parse(field("Expiration")),
  };
  const whole = field("Code") === "Success" && keys.accessKeyId !== "" && keys.secretAccessKey !== "";
  return whole && keys.sessionToken !== "" ? keys : undefined;
}
