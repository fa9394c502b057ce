/** Temporary credentials of one role session, as the cache keeps them. Times are in milliseconds. */
export type Credentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** Since the epoch, by STS's clock. This is the expiration that clients get. */
  readonly expiresAt: number;
  /** When STS answered, by our monotonic clock. */
  readonly fetchedAt: number;
  /**
   * How long they are valid, from `fetchedAt` on. Kept in addition to `expiresAt` because the host's clock
   * may be wrong: this is the difference of two times of STS's clock, so it does not depend on ours.
   */
  readonly lifetimeMs: number;
  /** 12 digits, from the assumed role's ARN. */
  readonly accountId: string;
  /** `arn:aws:sts::123456789012:assumed-role/name/session`. */
  readonly assumedRoleArn: string;
  /** `AROA…:session`. */
  readonly assumedRoleId: string;
};

/**
 * The bodies for credentials. Each is built once and stays the same Buffer until the credentials are renewed.
 */
export type Documents = {
  /** `iam/security-credentials/<role>`; `text/plain`. */
  readonly imds: Buffer;
  /** `iam/security-credentials-extended/<role>`; `text/plain`. */
  readonly extended: Buffer;
  /** `iam/info`; `text/plain`. */
  readonly info: Buffer;
  /** `/v1/credentials`, the format of the ECS and EKS agents; `application/json`. */
  readonly container: Buffer;
};

/** The bodies that clients get instead of credentials. */
export type FailureDocuments = {
  /** The IMDS format: `Code`, `Message`, `LastUpdated`. */
  readonly imds: Buffer;
  /** The format of the ECS agent, with the keys that each SDK reads. */
  readonly container: Buffer;
};

export function documentsOf(credentials: Credentials, roleArn: string): Documents {
  const imds = buffer(imdsObject(credentialFields(credentials)));
  // Go and boto clients request only the first one; the others are built on demand.
  let extended: Buffer | undefined;
  let info: Buffer | undefined;
  let container: Buffer | undefined;
  return {
    imds,
    get extended() {
      extended ??= buffer(
        imdsObject([...credentialFields(credentials), ["AccountId", credentials.accountId]]),
      );
      return extended;
    },
    get info() {
      info ??= buffer(imdsObject(infoFields(credentials, roleArn)));
      return info;
    },
    get container() {
      container ??= buffer(JSON.stringify(containerObject(credentials, roleArn)));
      return container;
    },
  };
}

/** `at`: `LastUpdated`, milliseconds since the epoch. `status`: the HTTP status in the container format. */
export function failureDocuments(
  failure: { readonly code: string; readonly message: string },
  at: number,
  status: number,
): FailureDocuments {
  return {
    imds: buffer(
      imdsObject([
        ["Code", failure.code],
        ["Message", failure.message],
        ["LastUpdated", timestamp(at)],
      ]),
    ),
    // Go and Rust read `code` and `message`, the JS SDK reads `Code` and `Message`. ECS also sends
    // HTTPErrorCode.
    container: buffer(
      JSON.stringify({
        code: failure.code,
        message: failure.message,
        Code: failure.code,
        Message: failure.message,
        HTTPErrorCode: status,
      }),
    ),
  };
}

type Field = readonly [key: string, value: string];

function credentialFields(credentials: Credentials): Field[] {
  return [
    ["Code", "Success"],
    ["LastUpdated", timestamp(issuedAt(credentials))],
    ["Type", "AWS-HMAC"],
    ["AccessKeyId", credentials.accessKeyId],
    ["SecretAccessKey", credentials.secretAccessKey],
    ["Token", credentials.sessionToken],
    ["Expiration", timestamp(credentials.expiresAt)],
  ];
}

/** By STS's clock, like the expiration next to it: ours may be wrong. */
function issuedAt({ expiresAt, lifetimeMs }: Credentials): number {
  return expiresAt - lifetimeMs;
}

/**
 * A container's role has no instance profile, so the role's own path, name and unique id are used instead.
 */
function infoFields(credentials: Credentials, roleArn: string): Field[] {
  return [
    ["Code", "Success"],
    ["LastUpdated", timestamp(issuedAt(credentials))],
    ["InstanceProfileArn", roleArn.replace(":role/", ":instance-profile/")],
    ["InstanceProfileId", credentials.assumedRoleId.split(":", 1)[0] ?? ""],
  ];
}

function containerObject(credentials: Credentials, roleArn: string): Readonly<Record<string, string>> {
  return {
    RoleArn: roleArn,
    AccessKeyId: credentials.accessKeyId,
    SecretAccessKey: credentials.secretAccessKey,
    Token: credentials.sessionToken,
    Expiration: timestamp(credentials.expiresAt),
    AccountId: credentials.accountId,
  };
}

/** EC2's layout, byte for byte: some early clients searched for `"Code" : "Success"` as text. */
function imdsObject(fields: readonly Field[]): string {
  return `{\n${fields.map(([key, value]) => `  "${key}" : ${JSON.stringify(value)}`).join(",\n")}\n}`;
}

/**
 * Whole seconds: with a fraction, boto 2 crashes and botocore skips its expiry check. Rounded down, because
 * rounded up it would be later than the real expiration.
 */
function timestamp(atMs: number): string {
  return `${new Date(Math.floor(atMs / 1000) * 1000).toISOString().slice(0, 19)}Z`;
}

function buffer(text: string): Buffer {
  return Buffer.from(text, "utf8");
}
