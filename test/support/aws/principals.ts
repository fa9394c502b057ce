import { createHash, randomBytes } from "node:crypto";
import {
  account,
  instance,
  issuedSecretMarker,
  issuedTokenMarker,
  leakKeyMarker,
  leakMarker,
} from "./account.ts";

/**
 * The holder of a set of keys. `host`, `instance` and `task` are from IMDS, `assumed-role` is from
 * AssumeRole, `user` is an IAM user.
 */
export type PrincipalKind = "host" | "instance" | "task" | "user" | "assumed-role";

/** A set of keys and its identity. Times are milliseconds since the epoch. */
export type Principal = {
  readonly kind: PrincipalKind;
  readonly arn: string;
  /** As in GetCallerIdentity: `AROA…:session`, `AIDA…`. */
  readonly userId: string;
  readonly accountId: string;
  /** The role behind an assumed-role session; empty for a user. */
  readonly roleArn: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Empty for a user's permanent keys. */
  readonly sessionToken: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
};

/** The contents of a token that AssumeRole issued. */
export type SessionClaims = {
  readonly roleArn: string;
  readonly sessionName: string;
  readonly serial: number;
};

/** A set of secret values, for tests that search logs for them. */
export type Secret = {
  readonly kind: PrincipalKind;
  readonly arn: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
};

type RoleSession = { readonly roleArn: string; readonly sessionName: string };
type Lifetime = { readonly now: number; readonly expiresAt: number };

/** Real session tokens begin like this ("origin_ec" in a protobuf). Some log scrubbers search for it. */
const tokenPrefix = "IQoJb3JpZ2luX2Vj";
const maxRemembered = 200_000;

/** Every key that the stand-in issued, so that STS can verify a signature and identify the signer. */
export class Principals {
  readonly #byAccessKey = new Map<string, Principal>();
  #serial = 0;

  /** New temporary keys for IMDS. All of them contain the leak markers. */
  addHost(kind: "host" | "instance" | "task", session: RoleSession, lifetime: Lifetime): Principal {
    const serial = this.#serial++;
    const suffix = (serial % 1296).toString(36).toUpperCase().padStart(2, "0");
    return this.#remember(kind, session, lifetime, {
      accessKeyId: `ASIA${leakKeyMarker}${suffix}`,
      secretAccessKey: `${leakMarker}/${randomText(23)}`,
      sessionToken: `${tokenPrefix}${leakMarker}/${randomText(850)}`,
    });
  }

  /** New temporary keys for an AssumeRole call. The token contains the role and session. */
  addAssumedRole(session: RoleSession, lifetime: Lifetime): Principal {
    const serial = this.#serial++;
    const claims: SessionClaims = { ...session, serial };
    const named = Buffer.from(JSON.stringify(claims)).toString("base64url");
    return this.#remember("assumed-role", session, lifetime, {
      accessKeyId: `ASIA${base32(randomBytes(16)).slice(0, 16)}`,
      secretAccessKey: `${issuedSecretMarker}/${randomText(26)}`,
      sessionToken: `${tokenPrefix}${issuedTokenMarker}.${named}.${randomText(600)}`,
    });
  }

  /**
   * Permanent keys of an IAM user, for a proxy outside EC2. They are the host's own, so they contain its
   * markers.
   */
  addUser(name: string, now: number): Principal {
    const accessKeyId = `AKIA${leakKeyMarker}${(this.#serial++ % 1296).toString(36).toUpperCase().padStart(2, "0")}`;
    const principal: Principal = {
      kind: "user",
      arn: `arn:${account.partition}:iam::${account.id}:user/${name}`,
      userId: uniqueId("AIDA", name),
      accountId: account.id,
      roleArn: "",
      accessKeyId,
      secretAccessKey: `${leakMarker}/${randomText(23)}`,
      sessionToken: "",
      issuedAt: now,
      expiresAt: Number.POSITIVE_INFINITY,
    };
    this.#byAccessKey.set(accessKeyId, principal);
    return principal;
  }

  find(accessKeyId: string): Principal | undefined {
    return this.#byAccessKey.get(accessKeyId);
  }

  /** Every secret issued so far (the last 200,000), the host's included. */
  secrets(): readonly Secret[] {
    return Array.from(
      this.#byAccessKey.values(),
      ({ kind, arn, accessKeyId, secretAccessKey, sessionToken }) => {
        return { kind, arn, accessKeyId, secretAccessKey, sessionToken };
      },
    );
  }

  #remember(
    kind: PrincipalKind,
    session: RoleSession,
    lifetime: Lifetime,
    keys: Pick<Principal, "accessKeyId" | "secretAccessKey" | "sessionToken">,
  ): Principal {
    const [, partition = account.partition, , , accountId = account.id] = session.roleArn.split(":");
    const roleName = session.roleArn.slice(session.roleArn.lastIndexOf("/") + 1);
    const principal: Principal = {
      kind,
      arn: `arn:${partition}:sts::${accountId}:assumed-role/${roleName}/${session.sessionName}`,
      userId: `${uniqueId("AROA", session.roleArn)}:${session.sessionName}`,
      accountId,
      roleArn: session.roleArn,
      ...keys,
      issuedAt: lifetime.now,
      expiresAt: lifetime.expiresAt,
    };
    this.#byAccessKey.set(principal.accessKeyId, principal);
    const oldest = this.#byAccessKey.size > maxRemembered ? this.#byAccessKey.keys().next().value : undefined;
    if (oldest !== undefined) this.#byAccessKey.delete(oldest);
    return principal;
  }
}

/** The role and session in a token from `addAssumedRole`; undefined for any other text. */
export function readSessionToken(token: string): SessionClaims | undefined {
  const [head, named] = token.split(".");
  if (head !== `${tokenPrefix}${issuedTokenMarker}` || named === undefined) return undefined;
  // The prefix is ours, so addAssumedRole wrote the content.
  return JSON.parse(Buffer.from(named, "base64url").toString()) as SessionClaims;
}

/** The session of the instance's own role, which EC2 names after the instance. */
export const hostSession: RoleSession = {
  roleArn: `arn:${account.partition}:iam::${account.id}:role/${account.hostRole}`,
  sessionName: instance.id,
};

/** An IAM unique id: the prefix and 17 letters or digits, derived from the name. */
export function uniqueId(prefix: string, name: string): string {
  return `${prefix}${base32(createHash("sha256").update(name).digest()).slice(0, 17)}`;
}

function randomText(length: number): string {
  return randomBytes(length).toString("base64").replaceAll("=", "").slice(0, length);
}

function base32(bytes: Buffer): string {
  return Array.from(bytes, (byte) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".charAt(byte & 31)).join("");
}
