import { isIP } from "node:net";
// As a namespace: the named export drags every locale into the executable.
import * as z from "zod";
import { addressBytes, canonicalAddress } from "./address.ts";

// Each schema is used once, at startup. Compiling it to a function costs more than it saves, and needs eval.
z.config({ jitless: true });

/** Value types of config.json that are more than a plain string. Messages start with `expected`. */

/**
 * A role ARN: partition, 12-digit account, path, name (IAM quotas: name 1-64 of `[\w+=,.@-]`, path at most
 * 512 characters). Partitions are not listed here, because AWS adds new ones. STS rejects unknown ones.
 */
export const roleArnPattern = /^arn:aws[a-z-]*:iam::\d{12}:role\/(?:[\x21-\x7e]{1,510}\/)?[\w+=,.@-]{1,64}$/;

export const roleArn = z
  .string()
  .describe("arn:PARTITION:iam::ACCOUNT:role/NAME")
  .superRefine((value, context) => {
    if (!roleArnPattern.test(value))
      context.addIssue({ code: "custom", message: `expected a role ARN${whyNoRoleArn(value)}` });
  });

/** Why a text is not a role ARN, to append to `expected a role ARN` or to the value. */
export function whyNoRoleArn(value: string): string {
  const [arn, partition, service, region, account, ...rest] = value.split(":");
  if (arn !== "arn") return " like arn:aws:iam::123456789012:role/name";
  if (!/^aws[a-z-]*$/.test(partition ?? "")) return ` (the partition is "${partition ?? ""}")`;
  if (service !== "iam") return ` (the service is "${service ?? ""}", not iam)`;
  if (region !== "") return " (IAM ARNs have no region: two colons after iam)";
  const digits = account ?? "";
  if (/\D/.test(digits)) return " (the account id contains characters other than digits)";
  if (digits.length !== 12)
    return ` (the account id has ${digits.length} ${digits.length === 1 ? "digit" : "digits"}, not 12)`;
  if (!rest.join(":").startsWith("role/")) return " (the resource does not start with role/)";
  return " (the role's name or path contains characters that IAM does not allow)";
}

/**
 * A glob for whole role ARNs. It must at least fix the service and `role/`: `*` alone would be an accident.
 */
export const arnGlob = z
  .string()
  .regex(
    /^arn:aws[a-z*-]*:iam::[\d*?]{1,12}:role\/.+$/,
    "expected a glob for role ARNs such as arn:aws:iam::123456789012:role/containers/*",
  );

export const aliasName = z
  .string()
  .regex(
    /^(?!arn:)[^\p{Cc}\s](?:[^\p{Cc}]{0,126}[^\p{Cc}\s])?$/u,
    "expected an alias: 1 to 128 characters, not an ARN",
  );

/** A container name, as Docker allows it. */
export const name = z
  .string()
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/, "expected a name of letters, digits and _.-");

/** The addresses of IMDS, from the AWS documentation. */
const metadataAddresses = ["169.254.169.254", "fd00:ec2::254"];

/** Why no caller can have this address; undefined if one can. */
export function callerAddressProblem(text: string): string | undefined {
  if (/^[^/]*\/\d+$/.test(text)) return "expected one IP address, without a prefix length";
  if (text.includes("%")) return "expected an IP address without a zone";
  const address = canonicalAddress(text);
  if (address === undefined)
    return /^\d+(\.\d+){3}$/.test(text)
      ? "expected an IP address: four numbers from 0 to 255 without leading zeros"
      : "expected an IP address";
  const [first = 0] = addressBytes(address);
  const is = (what: string) => `expected the IP address of a caller; this is ${what}`;
  if (metadataAddresses.includes(address)) return is("the address of the metadata service");
  if (address === "255.255.255.255") return is("the broadcast address");
  if (address.includes(":")) {
    if (address === "::") return is("the unspecified address");
    return first === 0xff ? is("a multicast address") : undefined;
  }
  if (first === 0) return is("an address in 0.0.0.0/8, which no host can have");
  return first >= 224 && first <= 239 ? is("a multicast address") : undefined;
}

/** An address as a key, converted to its canonical form, in which callers' addresses are looked up. */
export const callerAddress = z
  .string()
  .superRefine((value, context) => {
    const problem = callerAddressProblem(value);
    if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
  })
  .overwrite((value) => canonicalAddress(value) ?? value);

/** `:PORT`, `ADDRESS:PORT` or `[IPV6]:PORT`. */
export const hostPort = z.string().superRefine((value, context) => {
  if (parseHostPort(value) === undefined) {
    context.addIssue({
      code: "custom",
      message: "expected :PORT, ADDRESS:PORT or [IPV6]:PORT, with a port from 1 to 65535",
    });
  }
});

/** An address to listen on. `host` is undefined for all addresses. */
export type HostPort = { readonly host: string | undefined; readonly port: number };

export function parseHostPort(value: string): HostPort | undefined {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<v4>[^:[\]]*)):(?<port>\d{1,5})$/.exec(value);
  if (match === null) return undefined;
  const { v6, v4, port } = match.groups ?? {};
  const number = Number(port);
  if (number < 1 || number > 65_535) return undefined;
  if (v6 !== undefined) return isIP(v6) === 6 ? { host: v6, port: number } : undefined;
  if (v4 === undefined || v4 === "") return { host: undefined, port: number };
  if (v4 === "localhost") return { host: "127.0.0.1", port: number };
  return isIP(v4) === 4 ? { host: v4, port: number } : undefined;
}

/** An http or https URL without path, query or user. Normalized to have no trailing slash. */
export const url = z.string().transform((value, context) => {
  const parsed = URL.parse(value);
  const plain =
    parsed !== null &&
    /^https?:$/.test(parsed.protocol) &&
    parsed.pathname === "/" &&
    parsed.search + parsed.hash + parsed.username === "";
  if (plain) return parsed.origin;
  context.addIssue({ code: "custom", message: "expected an http:// or https:// URL without a path" });
  return z.NEVER;
});

/** An AWS region, of any partition. */
export const regionPattern = /^[a-z]{2,}(-[a-z]+)+-\d+$/;

/** A name below `meta-data/`, a path like `placement/region` in it, `dynamic/…`, or `user-data`. */
export const metadataCategory = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9._:-]+)*\/?$/,
    "expected a metadata category in lower case, such as placement or network/interfaces",
  );

/** The characters that STS accepts in a policy, and the maximum length (botocore's model of AssumeRole). */
const policyText = /^[\t\n\r\u0020-\u00ff]*$/;
const policyLimit = 2048;

/** Why a text is not a valid session policy; undefined if it is. */
export function sessionPolicyProblem(text: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return `expected a policy as JSON (${error instanceof Error ? error.message : String(error)})`;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    return "expected a policy: a JSON object with a Statement";
  if (!Object.hasOwn(parsed, "Statement")) return "expected a policy: this has no Statement";
  if (!policyText.test(text)) return "expected a policy in Latin-1 characters; STS accepts no others";
  if (text.length > policyLimit)
    return `expected a policy of at most ${policyLimit} characters; this has ${text.length}`;
  return undefined;
}

/** A session policy as text, or as an object that is serialized compactly. The value is the text for STS. */
export const sessionPolicy = z
  .union([z.string(), z.record(z.string(), z.json())], "expected a policy: a JSON string or an object")
  .transform((value, context) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const problem = sessionPolicyProblem(text);
    if (problem === undefined) return text;
    context.addIssue({ code: "custom", message: problem });
    return z.NEVER;
  });

/** Files of the predecessor may have an empty string for an unused key. */
export function orEmpty<T extends z.ZodType>(type: T) {
  return z.union([z.literal("").transform(() => undefined), type]);
}
