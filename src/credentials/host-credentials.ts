import { explain } from "../errors.ts";
import { AssumeRoleError } from "./assume-role.ts";
import { InstanceMetadata } from "./instance-metadata.ts";

/** The keys that sign calls to STS. The same object until they are replaced. */
export type HostKeys = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  /** Milliseconds since the epoch; undefined for keys that do not expire, or of which nobody knows it. */
  readonly expiresAt: number | undefined;
};

/** EC2 has new ones ready at least five minutes before the old end. */
const renewBeforeMs = 10 * 60_000;
/** Near the end, and when STS refuses, IMDS is asked again, but no more often than this. */
const leastPauseMs = 5_000;
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
  #keys: HostKeys | undefined;
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<HostKeys> | undefined;
  #region: string | undefined;

  constructor(options: {
    readonly metadataEndpoint: string;
    readonly environmentKeys: HostKeys | undefined;
    readonly timeoutMs: number;
    readonly now: () => number;
  }) {
    this.source = options.environmentKeys === undefined ? "instance profile" : "environment";
    this.#metadata = new InstanceMetadata(options.metadataEndpoint, options.timeoutMs);
    this.#endpoint = options.metadataEndpoint;
    this.#keys = options.environmentKeys;
    this.#now = options.now;
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

  /** The instance's own region, e.g. `eu-west-1`. */
  async region(): Promise<string> {
    this.#region ??= await this.#text("/latest/meta-data/placement/region");
    return this.#region;
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
    const role = (await this.#text(listPath)).split("\n", 1)[0]?.trim() ?? "";
    if (role === "")
      throw unavailable(`${this.#endpoint} lists no role: the instance has no instance profile`);
    const keys = parseKeys(await this.#text(`${listPath}${encodeURIComponent(role)}`));
    if (keys === undefined)
      throw unavailable(`${this.#endpoint} has no credentials for the instance's role ${role}`);
    // The same keys stay the same object, so that who compares sees no change.
    if (this.#keys?.accessKeyId !== keys.accessKeyId) this.#keys = keys;
    return this.#keys ?? keys;
  }

  async #text(path: string): Promise<string> {
    const answer = await this.#metadata.get(path).catch((error: unknown) => {
      throw unavailable(`reading ${this.#endpoint}${path}: ${explain(error)}`);
    });
    if (answer.status === 200) return answer.body;
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
function parseKeys(body: string): HostKeys | undefined {
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
  const expiresAt = Date.parse(field("Expiration"));
  const keys = {
    accessKeyId: field("AccessKeyId"),
    secretAccessKey: field("SecretAccessKey"),
    sessionToken: field("Token"),
    expiresAt: Number.isNaN(expiresAt) ? undefined : expiresAt,
  };
  const whole = field("Code") === "Success" && keys.accessKeyId !== "" && keys.secretAccessKey !== "";
  return whole && keys.sessionToken !== "" ? keys : undefined;
}
