import type { ImdsFaults, StsFaults } from "../aws/faults.ts";
import type { ImdsRequest } from "../aws/imds.ts";
import type { Principal, Secret } from "../aws/principals.ts";
import type { StsCall } from "../aws/sts.ts";
import { awsFiles } from "./aws-files.ts";
import type { TestHost } from "./host.ts";

/** STS, for the host and for every container on it. Plain HTTP: signatures do not depend on TLS. */
export const stsUrl = "http://10.200.0.2";
/** The "real" IMDS. A container that reaches it has bypassed the proxy. */
export const imdsUrl = "http://169.254.169.254";
export const imdsUrl6 = "http://[fd00:ec2::254]";

const controlUrl = "http://10.200.0.2:81";
const awsUnit = "testhost-aws.service";

export type AwsSideOptions = {
  /** Further arguments for the stand-in: `--http-tokens optional`, `--keep-alive`, `--strict`. */
  readonly args?: readonly string[];
};

/** The requests that IMDS and STS received, and their faults. Available while the host is up. */
export type AwsSide = {
  /** Requests to the "real" IMDS, oldest first. */
  requests(): Promise<readonly ImdsRequest[]>;
  /** Calls to STS, oldest first. */
  calls(): Promise<readonly StsCall[]>;
  counts(): Promise<Counts>;
  /** Every secret that was issued. No log may contain one. */
  secrets(): Promise<readonly Secret[]>;
  /** `roles` is keyed by role ARN. Each part replaces that part's settings; omitted parts are unchanged. */
  setFaults(faults: {
    readonly imds?: Partial<ImdsFaults>;
    readonly sts?: Partial<StsFaults>;
    readonly roles?: Readonly<Record<string, Partial<StsFaults>>>;
  }): Promise<void>;
  /** Gives the instance new credentials. */
  rotate(expiresInSeconds?: number): Promise<void>;
  /** Permanent keys of an IAM user. */
  addUser(name: string): Promise<Principal>;
  invalidateTokens(): Promise<void>;
  /** Turns faults off and clears the records. */
  reset(): Promise<void>;
};

export type Counts = {
  readonly imds: { readonly total: number };
  readonly sts: { readonly inFlight: number; readonly maxInFlight: number; readonly total: number };
};

/**
 * Puts AWS into a network namespace of its own, behind a link of the host, as a host on EC2 sees it: IMDS on
 * IPv4 and IPv6, STS at `stsUrl`. Without a redirect a container reaches the real IMDS, as on EC2. The parts
 * are units, so they survive a reboot.
 */
export async function startAws(host: TestHost, options: AwsSideOptions = {}): Promise<AwsSide> {
  for (const { path, content, mode } of awsFiles(options.args ?? [])) await host.write(path, content, mode);
  await host.exec(["systemctl", "daemon-reload"]);
  await host.exec(["systemctl", "enable", "--now", awsUnit]);
  const aws = awsSide(host);
  await awsIsUp(host);
  return aws;
}

/** Waits for the stand-in: after the start, a reboot, or a fault that affects the link. */
async function awsIsUp(host: TestHost): Promise<void> {
  const aws = awsSide(host);
  await host.waitFor(async () => (await aws.counts()) !== undefined, {
    timeoutMs: 15_000,
    what: "the AWS stand-in to answer",
  });
}

function awsSide(host: TestHost): AwsSide {
  // The answers are the stand-in's own JSON; test/support/aws/control.ts defines the type of each path.
  const ask = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const input =
      body === undefined ? [] : ["--data-binary", "@-", "--header", "Content-Type: application/json"];
    const command = [
      "curl",
      "--silent",
      "--show-error",
      "--fail-with-body",
      "--max-time",
      "10",
      "--request",
      method,
      ...input,
    ];
    // Asked from inside AWS: no rule of the host under test is on the way.
    const { stdout } = await host.exec(["ip", "netns", "exec", "aws", ...command, `${controlUrl}${path}`], {
      stdin: body === undefined ? "" : JSON.stringify(body),
    });
    return JSON.parse(stdout) as T;
  };
  return {
    requests: () => ask("GET", "/requests"),
    calls: () => ask("GET", "/calls"),
    counts: () => ask("GET", "/counts"),
    secrets: () => ask("GET", "/secrets"),
    setFaults: (faults) => ask("PUT", "/faults", faults),
    rotate: (expiresInSeconds) => ask("POST", "/rotate", { expiresInSeconds }),
    addUser: (name) => ask("POST", "/user", { name }),
    invalidateTokens: () => ask("POST", "/invalidate-tokens"),
    reset: () => ask("POST", "/reset"),
  };
}
