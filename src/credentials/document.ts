/** Temporary credentials of one assumed role session, as this program keeps them. Times are in milliseconds. */
export type Credentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** Since the epoch, as STS said it, by STS's clock: what clients are told. */
  readonly expiresAt: number;
  /** When STS answered, by our clock for durations. */
  readonly fetchedAt: number;
  /**
   * How long they live from `fetchedAt` on. Kept beside `expiresAt` because the host's clock may be wrong:
   * this is the difference of two readings of STS's clock, so it is right whatever ours says.
   */
  readonly lifetimeMs: number;
  /** 12 digits, from the assumed role's ARN. */
  readonly accountId: string;
  /** `arn:aws:sts::123456789012:assumed-role/name/session`. */
  readonly assumedRoleArn: string;
  /** `AROA…:session`. */
  readonly assumedRoleId: string;
};

/** What clients are sent for credentials. Each is built once and is the same Buffer until the credentials are renewed. */
export type Documents = {
  /** `iam/security-credentials/<role>`; `text/plain`. */
  readonly imds: Buffer;
  /** `iam/security-credentials-extended/<role>`; `text/plain`. */
  readonly extended: Buffer;
  /** `iam/info`; `text/plain`. */
  readonly info: Buffer;
  /** `/v1/credentials`, the form of the ECS and EKS agents; `application/json`. */
  readonly container: Buffer;
};

/** What clients are sent instead of credentials. */
export type FailureDocuments = {
  /** The IMDS form: `Code`, `Message`, `LastUpdated`. */
  readonly imds: Buffer;
  /** The form of the ECS agent, with the keys that each SDK looks for. */
  readonly container: Buffer;
};

export function documentsOf(credentials: Credentials, roleArn: string): Documents {
  const imds = buffer(imdsObject(credentialFields(credentials)));
  // A Go or boto client asks for the first form alone; the other three are made when somebody asks.
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

/** `at`: milliseconds since the epoch; becomes `LastUpdated`. `status`: the HTTP status that the container form names. */
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
    // Go and Rust read `code` and `message`, the JS SDK reads `Code` and `Message`; ECS sends HTTPErrorCode too.
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

/** The role's name without its path: the whole body of the role list. A newline after it would break clients that do not trim. */
export function roleNameOf(roleArn: string): string {
  return roleArn.slice(roleArn.lastIndexOf("/") + 1);
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

/** By STS's clock, as the expiration beside it is: ours may be wrong. */
function issuedAt({ expiresAt, lifetimeMs }: Credentials): number {
  return expiresAt - lifetimeMs;
}

/** There is no instance profile behind a container's role: the role's own path, name and unique id stand in for one. */
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

/** EC2's own layout, byte for byte: some clients of the first years looked for `"Code" : "Success"` as text. */
function imdsObject(fields: readonly Field[]): string {
  return `{\n${fields.map(([key, value]) => `  "${key}" : ${JSON.stringify(value)}`).join(",\n")}\n}`;
}

/** Whole seconds, rounded down: boto 2 dies of a fraction, botocore skips its expiry check, and up would promise too much. */
function timestamp(atMs: number): string {
  return `${new Date(Math.floor(atMs / 1000) * 1000).toISOString().slice(0, 19)}Z`;
}

function buffer(text: string): Buffer {
  return Buffer.from(text, "utf8");
}
