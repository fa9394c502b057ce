import { deflateRawSync } from "node:zlib";
import { policyProblem } from "./session-policy.ts";
import { packedPolicyTooLarge, type StsError, validation } from "./sts-errors.ts";

/** The parameters of an AssumeRole call, checked against the limits of the API. */
export type AssumeRoleInput = {
  readonly roleArn: string;
  readonly roleSessionName: string;
  readonly durationSeconds: number;
  readonly policy: string | undefined;
  readonly policyArns: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
  readonly externalId: string | undefined;
  readonly sourceIdentity: string | undefined;
  /** In percent of the available space. */
  readonly packedPolicyPercent: number | undefined;
};

export type AssumeRoleParsed = { readonly input: AssumeRoleInput } | { readonly error: StsError };

type Limit = { readonly min: number; readonly max: number; readonly pattern?: RegExp };

/** AWS includes the pattern in its message, so the source text of these is part of the answer. */
const limits: Readonly<Record<string, Limit>> = {
  RoleArn: {
    min: 20,
    max: 2048,
    pattern: /[\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]+/u,
  },
  RoleSessionName: { min: 2, max: 64, pattern: /[\w+=,.@-]*/ },
  Policy: { min: 1, max: 2048, pattern: /[\t\n\r\x20-\xFF]+/ },
  ExternalId: { min: 2, max: 1224, pattern: /[\w+=,.@:/-]*/ },
  SourceIdentity: { min: 2, max: 64, pattern: /(?!aws:)[\w+=,.@-]*/ },
};
const tagKey: Limit = { min: 1, max: 128, pattern: /[\p{L}\p{Z}\p{N}_.:/=+\-@]+/u };
const tagValue: Limit = { min: 0, max: 256, pattern: /[\p{L}\p{Z}\p{N}_.:/=+\-@]*/u };
const roleArnShape = /^arn:aws[a-z-]*:iam::(\d{12}):role\/(?:[\x21-\x7e]{1,510}\/)?[\w+=,.@-]{1,64}$/;
const policyArnShape = /^arn:aws[a-z-]*:iam::(\d{12}|aws):policy\/(?:[\x21-\x7e]+\/)?[\w+=,.@-]{1,128}$/;
/** The real packing is not published. This one allows so many bytes after deflate. */
const packedBytes = 1024;

export function parseAssumeRole(form: URLSearchParams): AssumeRoleParsed {
  const failed: string[] = [];
  for (const name of ["RoleArn", "RoleSessionName"]) {
    if (!form.has(name))
      failed.push(`Value null at '${wireName(name)}' failed to satisfy constraint: Member must not be null`);
  }
  for (const [name, limit] of Object.entries(limits)) {
    const value = form.get(name);
    if (value !== null) failed.push(...constraints(value, wireName(name), limit));
  }
  const duration = form.get("DurationSeconds") ?? "3600";
  if (!/^\d{1,9}$/.test(duration))
    return invalid(
      `1 validation error detected: Value '${duration}' at 'durationSeconds' failed to satisfy constraint: Member must be an integer`,
    );
  const durationSeconds = Number(duration);
  const durationLimit =
    durationSeconds < 900
      ? "greater than or equal to 900"
      : durationSeconds > 43_200
        ? "less than or equal to 43200"
        : "";
  if (durationLimit !== "")
    failed.push(constraint(duration, "durationSeconds", `Member must have value ${durationLimit}`));

  const policyArns = members(form, "PolicyArns", ".arn");
  const keys = members(form, "Tags", ".Key");
  const values = members(form, "Tags", ".Value");
  if (policyArns.length > 10)
    failed.push(constraint("[…]", "policyArns", "Member must have length less than or equal to 10"));
  for (const [name, count] of [
    ["tags", keys.length],
    ["transitiveTagKeys", members(form, "TransitiveTagKeys", "").length],
  ] as const) {
    if (count > 50) failed.push(constraint("[…]", name, "Member must have length less than or equal to 50"));
  }
  for (const [index, key] of keys.entries()) {
    failed.push(...constraints(key, `tags.${index + 1}.member.key`, tagKey));
    failed.push(...constraints(values[index] ?? "", `tags.${index + 1}.member.value`, tagValue));
  }
  if (failed.length > 0) {
    return invalid(
      `${failed.length} validation error${failed.length > 1 ? "s" : ""} detected: ${failed.join("; ")}`,
    );
  }
  return checkMeaning({
    roleArn: form.get("RoleArn") ?? "",
    roleSessionName: form.get("RoleSessionName") ?? "",
    durationSeconds,
    policy: form.get("Policy") ?? undefined,
    policyArns,
    tags: keys.map((key, index) => [key, values[index] ?? ""] as const),
    externalId: form.get("ExternalId") ?? undefined,
    sourceIdentity: form.get("SourceIdentity") ?? undefined,
  });
}

type Unchecked = Omit<AssumeRoleInput, "tags" | "packedPolicyPercent"> & {
  readonly tags: readonly (readonly [string, string])[];
};

/** Checks parameters whose lengths and characters are valid. */
function checkMeaning(given: Unchecked): AssumeRoleParsed {
  const account = roleArnShape.exec(given.roleArn)?.[1];
  if (account === undefined) return invalid(`${given.roleArn} is invalid`);
  const folded = new Set(given.tags.map(([key]) => key.toLowerCase()));
  if (folded.size < given.tags.length) {
    return invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.");
  }
  for (const [key] of given.tags) {
    if (/^aws:/i.test(key)) return invalid("Tag keys starting with 'aws:' are reserved for system use");
  }
  for (const arn of given.policyArns) {
    const owner = policyArnShape.exec(arn)?.[1];
    if (owner === undefined || (owner !== "aws" && owner !== account))
      return invalid(`PolicyArn ${arn} is not valid.`);
  }
  const policyError = given.policy === undefined ? undefined : policyProblem(given.policy);
  if (policyError !== undefined) return { error: policyError };
  const plain = [given.policy ?? "", ...given.policyArns].join("");
  const packed = [plain, ...given.tags.flat()].join("\0");
  const percent = Math.ceil((deflateRawSync(packed).length / packedBytes) * 100);
  if (plain.length > 2048 || percent > 100) return { error: packedPolicyTooLarge(Math.max(percent, 101)) };
  const nothingPacked = plain === "" && given.tags.length === 0;
  return {
    input: {
      ...given,
      tags: Object.fromEntries(given.tags),
      packedPolicyPercent: nothingPacked ? undefined : percent,
    },
  };
}

function invalid(message: string): { readonly error: StsError } {
  return { error: validation(message) };
}

function constraints(value: string, name: string, { min, max, pattern }: Limit): readonly string[] {
  const failed: string[] = [];
  if (value.length < min)
    failed.push(constraint(value, name, `Member must have length greater than or equal to ${min}`));
  if (value.length > max)
    failed.push(constraint(value, name, `Member must have length less than or equal to ${max}`));
  if (pattern !== undefined && pattern.exec(value)?.[0] !== value) {
    failed.push(constraint(value, name, `Member must satisfy regular expression pattern: ${pattern.source}`));
  }
  return failed;
}

function constraint(value: string, name: string, text: string): string {
  return `Value '${value}' at '${name}' failed to satisfy constraint: ${text}`;
}

/** `RoleSessionName` is `roleSessionName` in messages. */
function wireName(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}

/** The values of `Tags.member.1.Key`, `Tags.member.2.Key` …, up to the first missing number. */
function members(form: URLSearchParams, list: string, suffix: string): readonly string[] {
  const found: string[] = [];
  for (let value = form.get(`${list}.member.1${suffix}`); value !== null; ) {
    found.push(value);
    value = form.get(`${list}.member.${found.length + 1}${suffix}`);
  }
  return found;
}
