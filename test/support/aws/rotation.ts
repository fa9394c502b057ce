import { account } from "./account.ts";
import type { Principal, Principals } from "./principals.ts";
import { buildTree, type HeldCredentials, type Tree } from "./tree.ts";

/**
 * On EC2 role credentials are valid for about six hours, and are replaced at least five minutes before they
 * expire.
 */
const lifetimeMs = 6 * 3600_000;
const renewBeforeMs = 5 * 60_000;

/** The credentials of IMDS, renewed as on EC2, and the metadata tree that contains them. */
export class HostCredentials {
  readonly #principals: Principals;
  readonly #session: { readonly roleArn: string; readonly sessionName: string };
  readonly #now: () => number;
  #held: HeldCredentials & { readonly host: Principal };
  #renewAt: number;
  readonly #trees = new Map<boolean, Tree>();

  constructor(principals: Principals, session: { roleArn: string; sessionName: string }, now: () => number) {
    this.#principals = principals;
    this.#session = session;
    this.#now = now;
    this.#held = this.#issue(lifetimeMs);
    this.#renewAt = now() + lifetimeMs - renewBeforeMs;
  }

  /** The keys of the host's role that are served now. */
  get host(): Principal {
    this.#renewIfDue();
    return this.#held.host;
  }

  /**
   * New credentials at once; the old ones stay valid until they end. With an expiry these are kept until the
   * next call of `rotate`, even past their end; without one they are renewed in time, as the real ones are.
   */
  rotate(expiresInMs?: number): Principal {
    this.#held = this.#issue(expiresInMs ?? lifetimeMs);
    this.#renewAt =
      expiresInMs === undefined ? this.#now() + lifetimeMs - renewBeforeMs : Number.POSITIVE_INFINITY;
    this.#trees.clear();
    return this.#held.host;
  }

  tree(roleAttached: boolean): Tree {
    this.#renewIfDue();
    const known = this.#trees.get(roleAttached);
    if (known !== undefined) return known;
    const tree = buildTree({ ...this.#held, host: roleAttached ? this.#held.host : undefined });
    this.#trees.set(roleAttached, tree);
    return tree;
  }

  #renewIfDue(): void {
    if (this.#now() >= this.#renewAt) this.rotate();
  }

  #issue(expiresInMs: number): HeldCredentials & { readonly host: Principal } {
    const lifetime = { now: this.#now(), expiresAt: this.#now() + expiresInMs };
    const { sessionName } = this.#session;
    const role = (name: string) => ({
      roleArn: `arn:${account.partition}:iam::${account.id}:role/${name}`,
      sessionName,
    });
    const task = (name: string) => this.#principals.addHost("task", role(name), lifetime);
    return {
      host: this.#principals.addHost("host", this.#session, lifetime),
      instance: this.#principals.addHost("instance", role("aws:ec2-instance"), lifetime),
      tasks: {
        "0123456789abcdef0123456789abcdef-TaskApplication": task("ecs-task-role"),
        "0123456789abcdef0123456789abcdef-TaskExecution": task("ecs-execution-role"),
      },
    };
  }
}
