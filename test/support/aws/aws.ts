import { type Imds, type ImdsOptions, startImds } from "./imds.ts";
import { Principals, type Secret } from "./principals.ts";
import { type Sts, type StsOptions, startSts } from "./sts.ts";

export type AwsOptions = {
  readonly imds?: Omit<ImdsOptions, "principals" | "now">;
  readonly sts?: Omit<StsOptions, "principals" | "now">;
  /** Milliseconds since the epoch; both services live by it. */
  readonly now?: () => number;
};

/** The AWS side of a test or a demo: an instance's metadata service and the STS that knows its role. */
export type Aws = AsyncDisposable & {
  readonly imds: Imds;
  readonly sts: Sts;
  /** Every secret that either of them gave out, to look for in logs. */
  secrets(): readonly Secret[];
  /** Permanent keys of an IAM user, as a proxy outside EC2 has them in its environment. */
  addUser(name: string): Secret;
  /** Faults off, records empty. Tokens and credentials stay valid. */
  reset(): void;
  /** Cuts all connections and frees the ports. */
  stop(): Promise<void>;
};

/** Starts both on loopback, or where the options say. `await using aws = await startAws()` stops them at the block's end. */
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
