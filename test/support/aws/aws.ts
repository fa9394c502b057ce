import { type Imds, type ImdsOptions, startImds } from "./imds.ts";
import { Principals, type Secret } from "./principals.ts";
import { type Sts, type StsOptions, startSts } from "./sts.ts";

export type AwsOptions = {
  readonly imds?: Omit<ImdsOptions, "principals" | "now">;
  readonly sts?: Omit<StsOptions, "principals" | "now">;
  /** Milliseconds since the epoch; the clock of both services. */
  readonly now?: () => number;
};

/** The AWS side of a test or a demo: an instance's metadata service, and an STS that knows its role. */
export type Aws = AsyncDisposable & {
  readonly imds: Imds;
  readonly sts: Sts;
  /** Every secret that either of them issued, to search for in logs. */
  secrets(): readonly Secret[];
  /** Permanent keys of an IAM user, for the environment of a proxy outside EC2. */
  addUser(name: string): Secret;
  /** Turns faults off and clears the records. Tokens and credentials stay valid. */
  reset(): void;
  /** Closes all connections and frees the ports. */
  stop(): Promise<void>;
};

/**
 * Starts both on loopback or at the given addresses. `await using aws = await startAws()` stops them at the
 * end of the block.
 */
export async function startAws(options: AwsOptions = {}): Promise<Aws> {
  const shared = { principals: new Principals(), now: options.now ?? Date.now };
  const imds = await startImds({ ...options.imds, ...shared });
  const sts = await startSts({ ...options.sts, ...shared }).catch(async (error: unknown) => {
    await imds.stop();
    throw error;
  });
  const stop = async () => {
    await Promise.all([imds.stop(), sts.stop()]);
  };
  return {
    imds,
    sts,
    secrets: () => shared.principals.secrets(),
    addUser: (name) => shared.principals.addUser(name, shared.now()),
    reset: () => {
      imds.setFaults({});
      imds.requests.clear();
      sts.faults.clear();
      sts.reset();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
