import { explain } from "../errors.ts";
import type { MetadataAnswer, MetadataClient } from "../metadata/client.ts";
import { singleFlight } from "../single-flight.ts";
import { AssumeRoleError } from "./assume-role.ts";
import { metadataFailureOf, statusFailure } from "./diagnosis.ts";
import type { FailureName } from "./failures.ts";

/** The keys that sign calls to STS. The same object until they are replaced. */
export type HostKeys = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  /** By our clock for durations; undefined for keys that do not expire. */
  readonly expiresAt: number | undefined;
};

/** EC2 provides new credentials at least five minutes before the old ones expire. */
const renewBeforeMs = 10 * 60_000;
/** Close to the expiry, and when STS rejects the keys, IMDS is asked again, but no more often than this. */
const minReadIntervalMs = 5_000;
/**
 * Instance profile credentials live for six hours. A longer or missing expiration is treated as this much.
 */
const maxLifetimeMs = 6 * 3_600_000;
const regionPath = "/latest/meta-data/placement/region";
const listPath = "/latest/meta-data/iam/security-credentials/";

/**
 * The host's own AWS credentials: from the environment, otherwise from the instance profile. No other source
 * is used: a stray AWS_PROFILE, a credentials file or AWS_CONTAINER_CREDENTIALS_* (the proxy itself may run
 * as an ECS task) would silently change the host's identity.
 */
export class HostCredentials {
  readonly source: "environment" | "instance profile";
  readonly #metadata: Pick<MetadataClient, "endpoint" | "read">;
  readonly #timeoutMs: number;
  readonly #now: () => number;
  readonly #wallNow: () => number;
  #keys: HostKeys | undefined;
  #readAt = Number.NEGATIVE_INFINITY;
  #region: string | undefined;

  constructor(options: {
    readonly metadata: Pick<MetadataClient, "endpoint" | "read">;
    readonly environmentKeys: HostKeys | undefined;
    /** For each request to the metadata service. */
    readonly timeoutMs: number;
    readonly now: () => number;
    readonly wallNow: () => number;
  }) {
    this.source = options.environmentKeys === undefined ? "instance profile" : "environment";
    this.#metadata = options.metadata;
    this.#timeoutMs = options.timeoutMs;
    this.#keys = options.environmentKeys;
    this.#now = options.now;
    this.#wallNow = options.wallNow;
  }

  /** For status output; undefined before the first call. */
  get accessKeyId(): string | undefined {
    return this.#keys?.accessKeyId;
  }

  async current(): Promise<HostKeys> {
    const keys = this.#keys;
    if (keys === undefined) return this.#read();
    if (keys.expiresAt === undefined || keys.expiresAt - this.#now() > renewBeforeMs) return keys;
    if (this.#now() - this.#readAt < minReadIntervalMs) return keys;
    // Expiring credentials are better than none: STS decides.
    return this.#read().catch(() => keys);
  }

  /**
   * STS rejected these keys: reads them again, unless that was done a moment ago. True if the keys have
   * changed.
   */
  async replaced(rejected: HostKeys): Promise<boolean> {
    if (this.#keys !== rejected) return true;
    if (this.source === "environment" || this.#now() - this.#readAt < minReadIntervalMs) return false;
    const keys = await this.#read().catch(() => rejected);
    return keys.accessKeyId !== rejected.accessKeyId;
  }

  /** Appended to STS's error message if the keys that it rejected have expired; otherwise empty. */
  expiryNote({ expiresAt }: HostKeys): string {
    if (expiresAt === undefined || expiresAt > this.#now()) return "";
    const seconds = Math.round((this.#now() - expiresAt) / 1000);
    return ` (the host's credentials at ${this.#metadata.endpoint} expired ${seconds} s ago, and there are no newer ones)`;
  }

  /** The instance's own region, e.g. `eu-west-1`. */
  async region(): Promise<string> {
    return this.#region ?? this.#readRegion();
  }

  readonly #readRegion = singleFlight(async () => {
    const region = (await this.#get(regionPath, "region-unknown")).body.trim();
    // It becomes part of the host name that signed calls go to, so anything else must be rejected.
    if (!/^[a-z]{2,8}(-[a-z0-9]{1,16}){1,5}$/.test(region))
      throw unavailable(
        "region-unknown",
        `reading ${this.#metadata.endpoint}${regionPath}: the answer is not a region`,
      );
    this.#region = region;
    return region;
  });

  readonly #read = singleFlight(async () => {
    const { endpoint } = this.#metadata;
    this.#readAt = this.#now();
    const role = (await this.#get(listPath, "no-instance-profile")).body.split("\n", 1)[0]?.trim() ?? "";
    if (role === "")
      throw unavailable(
        "no-instance-profile",
        `${endpoint} lists no role: the instance has no instance profile`,
      );
    const answer = await this.#get(`${listPath}${encodeURIComponent(role)}`, "no-instance-profile");
    const parsed = parseKeys(answer.body);
    if (typeof parsed === "string")
      throw unavailable(
        parsed === "" ? "metadata-failing" : "instance-role-unusable",
        `${endpoint} has no credentials for the instance's role ${role}${parsed === "" ? "" : ` (${parsed})`}`,
      );
    // Measured by the service's clock if it sends its time: the host's may be wrong, or be set while the keys
    // live.
    const leftMs = parsed.expiration - (answer.at ?? this.#wallNow());
    const expiresAt = this.#now() + (leftMs < maxLifetimeMs ? leftMs : maxLifetimeMs);
    const { accessKeyId, secretAccessKey, sessionToken } = parsed;
    const keys: HostKeys = { accessKeyId, secretAccessKey, sessionToken, expiresAt };
    // Unchanged keys stay the same object, so a comparison sees no change.
    if (this.#keys?.accessKeyId !== keys.accessKeyId) this.#keys = keys;
    return this.#keys ?? keys;
  });

  async #get(path: string, absent: FailureName): Promise<MetadataAnswer> {
    return readMetadata(this.#metadata, path, this.#timeoutMs, absent);
  }
}

/**
 * Reads a path of the metadata service for this host itself. Rejects with an AssumeRoleError that says what
 * is wrong with the service.
 * @param absent what a 404 means for this path
 */
export async function readMetadata(
  metadata: Pick<MetadataClient, "endpoint" | "read">,
  path: string,
  timeoutMs: number,
  absent: FailureName,
): Promise<MetadataAnswer> {
  const what = `reading ${metadata.endpoint}${path}`;
  const answer = await metadata.read(path, timeoutMs).catch((error: unknown) => {
    throw unavailable(metadataFailureOf(error), `${what}: ${explain(error)}`);
  });
  if (answer.status === 200) return answer;
  const failure = answer.status === 404 ? absent : statusFailure(answer.status);
  throw unavailable(failure, `${what}: status ${answer.status}`);
}

function unavailable(failure: FailureName, message: string): AssumeRoleError {
  return new AssumeRoleError("temporary", "HostCredentialsUnavailable", message, undefined, failure);
}

/**
 * The keys of a document that is complete and successful; otherwise the service's code, or an empty text. The
 * document itself is never quoted: it may hold a secret.
 */
function parseKeys(body: string): (Omit<HostKeys, "expiresAt"> & { readonly expiration: number }) | string {
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch {
    return "";
  }
  if (typeof document !== "object" || document === null) return "";
  const fields: object = document;
  const field = (name: string): string => {
    const value: unknown = Reflect.get(fields, name);
    return typeof value === "string" ? value : "";
  };
  const keys = {
    accessKeyId: field("AccessKeyId"),
    secretAccessKey: field("SecretAccessKey"),
    sessionToken: field("Token"),
    // NaN if missing or unreadable.
    expiration: Date.parse(field("Expiration")),
  };
  const code = field("Code");
  if (code !== "Success") return /^[A-Za-z]{1,64}$/.test(code) ? code : "";
  return Object.values(keys).every((value) => value !== "") ? keys : "";
}
