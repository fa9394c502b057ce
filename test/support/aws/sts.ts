import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { parseAssumeRole } from "./assume-role.ts";
import { StsFaultSwitches, type StsFaults } from "./faults.ts";
import { type ForeignAnswer, foreignAnswers } from "./foreign-answers.ts";
import { type Address, anyLoopbackPort, listenOn } from "./listen.ts";
import { type Principal, Principals } from "./principals.ts";
import { Recorder } from "./recorder.ts";
import { verifySignature } from "./sigv4.ts";
import {
  expiredToken,
  internalFailure,
  invalidAction,
  regionDisabled,
  type StsError,
  throttled,
} from "./sts-errors.ts";
import { assumeRoleXml, callerIdentityXml, errorXml } from "./sts-xml.ts";
import { refusal, type TrustOptions } from "./trust.ts";

export type StsOptions = TrustOptions & {
  /** Default: any port of 127.0.0.1. */
  readonly listen?: readonly Address[];
  /** How many calls to keep for `calls`. Default 10,000. */
  readonly record?: number;
  /** Shared with IMDS, so that STS knows the host's keys. */
  readonly principals?: Principals;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
};

export type StsCall = {
  readonly at: number;
  readonly action: string;
  /** Empty if the call names none. */
  readonly roleArn: string;
  readonly sessionName: string;
  /** The access key id of the signature; empty without one. */
  readonly accessKeyId: string;
  readonly userAgent: string;
  readonly params: Readonly<Record<string, string>>;
  /** `ok`, an error code, or the fault that replaced the answer. */
  readonly outcome: string;
};

export type Sts = {
  readonly url: string;
  /** Every call whose latency has passed, including calls that hang. */
  readonly calls: Recorder<StsCall>;
  readonly faults: StsFaultSwitches;
  counts(): { readonly inFlight: number; readonly maxInFlight: number; readonly total: number };
  /** Forgets calls and counts. */
  reset(): void;
  stop(): Promise<void>;
};

type Outcome =
  | {
      readonly status: number;
      readonly xml: string;
      readonly outcome: string;
      readonly foreign?: ForeignAnswer;
    }
  | "hang"
  | "drop";

/** The Security Token Service: the Query protocol, with AssumeRole and GetCallerIdentity. */
export async function startSts(options: StsOptions = {}): Promise<Sts> {
  const principals = options.principals ?? new Principals();
  const now = options.now ?? Date.now;
  const calls = new Recorder<StsCall>(options.record ?? 10_000);
  const faults = new StsFaultSwitches();
  let inFlight = 0;
  let maxInFlight = 0;
  let second = { start: 0, calls: 0 };

  /** Fixed windows of one second: coarse, but predictable for a test. */
  const overRate = (perSecond: number) => {
    if (perSecond === 0) return false;
    const start = Math.floor(now() / 1000);
    second = { start, calls: second.start === start ? second.calls + 1 : 1 };
    return second.calls > perSecond;
  };

  const decide = (
    req: IncomingMessage,
    body: Buffer,
    form: URLSearchParams,
    set: StsFaults,
    id: string,
  ): Outcome => {
    const fail = (error: StsError) => ({
      status: error.status,
      xml: errorXml(error, id),
      outcome: error.code,
    });
    if (set.dropConnection) return "drop";
    if (set.hang) return "hang";
    if (set.status500) return fail(internalFailure);
    const foreign = foreignAnswers[set.foreign];
    if (foreign !== undefined)
      return { status: foreign.status, xml: foreign.body, outcome: set.foreign, foreign };
    if (set.foreign !== "") throw new Error(`unknown foreign answer ${set.foreign}`);
    if (set.throttle || overRate(set.callsPerSecond)) return fail(throttled);
    const action = form.get("Action") ?? "";
    const version = form.get("Version") ?? "";
    const known = action === "AssumeRole" || action === "GetCallerIdentity";
    if (req.method !== "POST" || !known || version !== "2011-06-15")
      return fail(invalidAction(action, version));
    const clock = now() + set.clockSkewSeconds * 1000;
    const { method, url = "/", headers } = req;
    const verified = verifySignature({ method, url, headers, body }, principals, clock);
    if ("error" in verified) return fail(verified.error);
    const { caller } = verified;
    if (set.expiredHostToken && caller.kind !== "assumed-role") return fail(expiredToken);
    if (set.regionDisabled) return fail(regionDisabled(caller.accountId));
    const xml =
      action === "AssumeRole"
        ? distort(assumeRole(caller, form, set, clock, id), set, clock)
        : callerIdentityXml(caller, id);
    if (typeof xml !== "string") return fail(xml);
    return set.malformedXml
      ? { status: 200, xml: xml.slice(0, xml.length / 2), outcome: "malformedXml" }
      : { status: 200, xml, outcome: "ok" };
  };

  const assumeRole = (
    caller: Principal,
    form: URLSearchParams,
    set: StsFaults,
    clock: number,
    id: string,
  ) => {
    const parsed = parseAssumeRole(form);
    if ("error" in parsed) return parsed.error;
    const { roleArn, roleSessionName, durationSeconds, packedPolicyPercent, sourceIdentity } = parsed.input;
    const refused = refusal(caller, parsed.input, options, set);
    if (refused !== undefined) return refused;
    const seconds = set.sessionSeconds === 0 ? durationSeconds : set.sessionSeconds;
    const lifetime = { now: clock, expiresAt: clock + seconds * 1000 };
    const session = principals.addAssumedRole({ roleArn, sessionName: roleSessionName }, lifetime);
    return assumeRoleXml({ session, packedPolicyPercent, sourceIdentity }, id);
  };

  const serve = async (req: IncomingMessage, res: ServerResponse) => {
    const at = now();
    const body = await readBody(req);
    const form = new URLSearchParams(isForm(req) ? body.toString("utf8") : "");
    const roleArn = form.get("RoleArn") ?? "";
    const set = faults.for(roleArn);
    if (set.latencyMs > 0) await delay(set.latencyMs, undefined, { ref: false });
    const id = randomUUID();
    const decided = decide(req, body, form, set, id);
    calls.add({
      at,
      action: form.get("Action") ?? "",
      roleArn,
      sessionName: form.get("RoleSessionName") ?? "",
      userAgent: req.headers["user-agent"] ?? "",
      accessKeyId: /Credential=([A-Z0-9]+)\//.exec(req.headers.authorization ?? "")?.[1] ?? "",
      params: Object.fromEntries(form),
      outcome: typeof decided === "string" ? decided : decided.outcome,
    });
    if (decided === "drop") req.socket.destroy();
    if (typeof decided === "string") return;
    res.sendDate = false;
    const { foreign } = decided;
    res.writeHead(decided.status, {
      ...(foreign?.headers ?? { "x-amzn-RequestId": id, "Content-Type": "text/xml" }),
      "Content-Length": Buffer.byteLength(decided.xml) + (foreign?.cut ? 100 : 0),
      ...(!set.noDate && { Date: new Date(now() + set.clockSkewSeconds * 1000).toUTCString() }),
    });
    if (foreign?.cut) {
      res.write(decided.xml, () => req.socket.end());
      return;
    }
    if (set.bodyDelayMs > 0) {
      res.write(decided.xml.slice(0, 20));
      await delay(set.bodyDelayMs, undefined, { ref: false });
      res.end(decided.xml.slice(20));
    } else res.end(decided.xml);
  };

  const handle = (req: IncomingMessage, res: ServerResponse) => {
    inFlight += 1;
    maxInFlight = Math.max(maxInFlight, inFlight);
    res.once("close", () => {
      inFlight -= 1;
    });
    // The client has gone, or sent too much: there is nobody to answer.
    serve(req, res).catch(() => req.socket.destroy());
  };

  const listening = await listenOn(options.listen ?? [anyLoopbackPort], { keepAliveTimeout: 75_000 }, handle);
  return {
    url: listening.urls[0] ?? "",
    calls,
    faults,
    counts: () => ({ inFlight, maxInFlight, total: calls.total }),
    reset: () => {
      calls.clear();
      maxInFlight = inFlight;
    },
    stop: () => listening.close(),
  };
}

/** Applies the faults that change the answer. */
function distort(answer: string | StsError, set: StsFaults, clock: number): string | StsError {
  if (typeof answer !== "string") return answer;
  let xml = answer;
  if (set.answerFor !== "") xml = xml.replace(/<Arn>[^<]*<\/Arn>/, `<Arn>${set.answerFor}</Arn>`);
  if (set.expiration === "") return xml;
  const seconds = /^[+-]\d+$/.test(set.expiration) ? Number(set.expiration) : undefined;
  const text = seconds === undefined ? set.expiration : new Date(clock + seconds * 1000).toISOString();
  const element = set.expiration === "none" ? "" : `<Expiration>${text}</Expiration>`;
  return xml.replace(/<Expiration>[^<]*<\/Expiration>/, element);
}

function isForm(req: IncomingMessage): boolean {
  return (req.headers["content-type"] ?? "").toLowerCase().startsWith("application/x-www-form-urlencoded");
}

/** Rejects over 64 KiB, more than any valid call has. */
async function readBody(req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > 65_536) throw new Error("reading an STS call: over 64 KiB");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
