import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Principal, Principals } from "./principals.ts";
import {
  expiredToken,
  incompleteSignature,
  invalidClientToken,
  missingAuthentication,
  type StsError,
  signatureMismatch,
} from "./sts-errors.ts";

/**
 * Verifies Signature Version 4. The stand-in issued the keys, so it can compute the signature and compare.
 */

export type SignedRequest = {
  readonly method: string;
  /** The request target as received. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

export type Verified = { readonly caller: Principal } | { readonly error: StsError };

/** The clock skew that AWS allows. */
const allowedSkewMs = 15 * 60_000;
const credentialShape = /^([^/\s]+)\/(\d{8})\/([a-z0-9-]+)\/([a-z0-9-]+)\/aws4_request$/;

export function verifySignature(request: SignedRequest, principals: Principals, now: number): Verified {
  const header = request.headers.authorization;
  if (header === undefined) return { error: missingAuthentication };
  const parts = authorizationParts(header);
  if ("error" in parts) return parts;
  const { credential, signedHeaders, signature } = parts;
  const scope = credentialShape.exec(credential);
  if (scope === null) {
    return refuse(
      `Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term`,
    );
  }
  const [, accessKeyId = "", date = "", region = "", service = ""] = scope;
  if (service !== "sts")
    return { error: signatureMismatch("Credential should be scoped to correct service: 'sts'.") };
  for (const needed of ["host", "x-amz-date"]) {
    if (!signedHeaders.includes(needed))
      return refuse(`'${needed}' must be a 'SignedHeader' in the AWS Authorization.`);
  }
  const amzDate = request.headers["x-amz-date"];
  const signedAt = typeof amzDate === "string" ? parseAmzDate(amzDate) : undefined;
  if (typeof amzDate !== "string" || signedAt === undefined)
    return refuse("Date must be in ISO-8601 'basic format'.");
  if (!amzDate.startsWith(date)) {
    return {
      error: signatureMismatch(
        `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date`,
      ),
    };
  }
  const skew = skewError(signedAt, now);
  if (skew !== undefined) return { error: skew };

  const caller = principals.find(accessKeyId);
  const token = request.headers["x-amz-security-token"] ?? "";
  if (caller === undefined || caller.sessionToken !== token) return { error: invalidClientToken };
  if (token !== "" && !signedHeaders.includes("x-amz-security-token")) {
    return refuse("'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization.");
  }
  const expected = sign(request, signedHeaders, { secret: caller.secretAccessKey, date, region, amzDate });
  if (!timingSafeEqual(Buffer.from(expected, "hex"), Buffer.from(signature, "hex"))) {
    const message =
      "The request signature we calculated does not match the signature you provided. " +
      "Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    return { error: signatureMismatch(message) };
  }
  // After the signature check: only a holder of the keys learns that they have expired.
  return now >= caller.expiresAt ? { error: expiredToken } : { caller };
}

function refuse(message: string): { readonly error: StsError } {
  return { error: incompleteSignature(message) };
}

type Parts = {
  readonly credential: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
};

function authorizationParts(header: string): Parts | { readonly error: StsError } {
  if (!header.startsWith("AWS4-HMAC-SHA256 ")) {
    return refuse("Authorization header requires 'AWS4-HMAC-SHA256' as its algorithm.");
  }
  const given = new Map<string, string>();
  for (const part of header.slice("AWS4-HMAC-SHA256 ".length).split(",")) {
    const at = part.indexOf("=");
    given.set(part.slice(0, at).trim(), part.slice(at + 1).trim());
  }
  for (const name of ["Credential", "SignedHeaders", "Signature"]) {
    if (!given.has(name)) return refuse(`Authorization header requires '${name}' parameter.`);
  }
  const signature = given.get("Signature") ?? "";
  if (!/^[0-9a-f]{64}$/.test(signature))
    return refuse("Signature must be 64 hexadecimal digits in lower case.");
  const signedHeaders = (given.get("SignedHeaders") ?? "").split(";");
  if (signedHeaders.join(";") !== [...signedHeaders].sort().join(";").toLowerCase()) {
    return refuse("SignedHeaders must be in lower case and sorted.");
  }
  return { credential: given.get("Credential") ?? "", signedHeaders, signature };
}

type Key = {
  readonly secret: string;
  readonly date: string;
  readonly region: string;
  readonly amzDate: string;
};

function sign(request: SignedRequest, signedHeaders: readonly string[], key: Key): string {
  const [path = "/", query = ""] = request.url.split("?", 2);
  const headers = signedHeaders.map((name) => `${name}:${headerText(request.headers[name])}\n`).join("");
  const canonical = [
    request.method,
    path === "" ? "/" : path,
    query.split("&").sort().join("&"),
    headers,
    signedHeaders.join(";"),
    createHash("sha256").update(request.body).digest("hex"),
  ].join("\n");
  const scope = `${key.date}/${key.region}/sts/aws4_request`;
  const hashed = createHash("sha256").update(canonical).digest("hex");
  const hmac = (secret: string | Buffer, text: string) => createHmac("sha256", secret).update(text).digest();
  const signingKey = [key.date, key.region, "sts", "aws4_request"].reduce<Buffer>(
    hmac,
    Buffer.from(`AWS4${key.secret}`),
  );
  return hmac(signingKey, `AWS4-HMAC-SHA256\n${key.amzDate}\n${scope}\n${hashed}`).toString("hex");
}

function headerText(value: string | string[] | undefined): string {
  return (Array.isArray(value) ? value.join(",") : (value ?? "")).trim().replace(/ +/g, " ");
}

function parseAmzDate(text: string): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (match === null) return undefined;
  const at = Date.parse(`${match[1]}-${match[2]}-${match[3]}T${match[4]}:${match[5]}:${match[6]}Z`);
  return Number.isNaN(at) ? undefined : at;
}

function skewError(signedAt: number, now: number): StsError | undefined {
  const text = (at: number) => new Date(at).toISOString().replace(/[-:]|\.\d+/g, "");
  if (signedAt < now - allowedSkewMs) {
    const limit = `${text(now - allowedSkewMs)} (${text(now)} - 15 min.)`;
    return signatureMismatch(`Signature expired: ${text(signedAt)} is now earlier than ${limit}`);
  }
  if (signedAt > now + allowedSkewMs) {
    const limit = `${text(now + allowedSkewMs)} (${text(now)} + 15 min.)`;
    return signatureMismatch(`Signature not yet current: ${text(signedAt)} is still later than ${limit}`);
  }
  return undefined;
}
