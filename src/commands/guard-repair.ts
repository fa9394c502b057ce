import { explain, problemLine } from "../errors.ts";
import { mustRun, type Run } from "../firewall/command.ts";
import { applyGuard, type Guard } from "../firewall/route-guard.ts";
import type { Settings } from "../firewall/settings.ts";
import type { Log } from "../log.ts";
import { TokenBucket } from "../token-bucket.ts";
import { applyFirewall } from "./firewall-apply.ts";
import type { planFirewall } from "./firewall-plan.ts";

type Options = {
  /** Reads the settings, which may have changed. */
  readonly plan: () => ReturnType<typeof planFirewall>;
  readonly run: Run;
  /** Starts the unit that repairs iptables' rules, which takes privileges that the guard does not have. */
  readonly trigger: () => Promise<void>;
  /** Called with the settings of each check. */
  readonly onSettings: (settings: Settings) => void;
  readonly log: Log;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** @returns a function that cancels */
  readonly schedule: (delayMs: number, act: () => void) => () => void;
};

/** Another program may remove our rules each time that they are restored. Two checks follow a restoration. */
const checksPerSecond = 4;
const retryMs = 10_000;
/** A run of the repair unit takes less. */
const triggerAgainMs = 1_000;

/** Restores the base rules when they were changed. */
export class Repair {
  readonly #options: Options;
  readonly #rate: TokenBucket;
  #isRequested = false;
  #isWorking = false;
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;
  #cancelRetry: (() => void) | undefined;
  readonly #checked = Promise.withResolvers<void>();
  /** Whether the rules have been in force as nftables tables. If not, nobody has applied them. */
  #wereInForce = false;
  readonly #gone = new Set<string>();
  #isRestoring = false;
  #restoring: Promise<void> = Promise.resolve();
  /** As they were at the last check, by name. */
  #tables: ReadonlyMap<string, string> = new Map();
  #routes: Guard | undefined;
  #state = "firewall not checked yet";
  #logged: string | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#rate = new TokenBucket(checksPerSecond, options.now());
  }

  /** Checks the rules, and restores them if they are not as the settings want them. */
  request(): void {
    this.#isRequested = true;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    if (this.#isWorking || this.#isClosed) return;
    this.#isWorking = true;
    this.#work = this.#checkUntilQuiet();
  }

  /**
   * Restores what was in force before, which is faster than a check, and then checks.
   * @param gone families and names of tables, or `routes` for the routing rules
   */
  restore(gone: readonly string[]): void {
    for (const one of gone) this.#gone.add(one);
    if (!this.#isRestoring && !this.#isClosed) {
      this.#isRestoring = true;
      this.#restoring = this.#restoreGone();
    }
    this.request();
  }

  /** Covers bridges that have got into the plan, which is faster than a check, and then checks. */
  async cover(): Promise<void> {
    const plan = await this.#options.plan();
    const isInForce = [...this.#tables.keys()].some((name) => name.startsWith("inet "));
    const [nftables] = plan.ok ? plan.backends.filter(({ name }) => name === "nftables") : [];
    if (plan.ok && isInForce && nftables !== undefined && !this.#isClosed)
      await this.#options.run("nft", ["-f", "-"], nftables.render(plan.rules));
    this.request();
  }

  /** Something has happened to the rules of iptables-nft. */
  requestForIptables(): void {
    if (!this.#wereInForce) this.request();
  }

  /** Resolves when the rules were checked for the first time, or could not be. */
  get checked(): Promise<void> {
    return this.#checked.promise;
  }

  /** Resolves when the checks that were requested before this call are done. */
  async settled(): Promise<void> {
    await this.#restoring;
    while (this.#isWorking) await this.#work;
  }

  /** In a few words, for the status line. */
  state(): string {
    return this.#state;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    await this.settled();
  }

  /** Never rejects. The check reports what fails here. */
  async #restoreGone(): Promise<void> {
    const { run, now, log } = this.#options;
    // A program that removes the rules each time that they are back has to wait for the check.
    while (this.#gone.size > 0 && this.#rate.delay(now()) === 0) {
      this.#rate.take();
      const gone = [...this.#gone];
      this.#gone.clear();
      const startedAt = now();
      const texts = gone.flatMap((name) => this.#tables.get(name) ?? []);
      const restored = await Promise.allSettled([
        texts.length > 0 && mustRun(run, "restoring tables", "nft", ["-f", "-"], texts.join("")),
        gone.includes("routes") && this.#routes !== undefined && applyGuard(run, this.#routes),
      ]);
      if (restored.some((one) => one.status === "fulfilled" && one.value !== false))
        log.warn(
          { code: "rules-restored", gone, ms: Math.round(now() - startedAt) },
          "firewall rules were removed, and were restored",
        );
    }
    this.#gone.clear();
    this.#isRestoring = false;
  }

  /** Never rejects. Our own transactions request one more check, which finds everything in place. */
  async #checkUntilQuiet(): Promise<void> {
    const { now, sleep } = this.#options;
    while (this.#isRequested && !this.#isClosed) {
      await sleep(this.#rate.delay(now()));
      this.#rate.take();
      this.#isRequested = false;
      try {
        await this.#check();
      } catch (error) {
        this.#failed(explain(error));
      }
    }
    this.#isWorking = false;
  }

  async #check(): Promise<void> {
    const { plan: makePlan, onSettings, log, now } = this.#options;
    const startedAt = now();
    const plan = await makePlan();
    if (!plan.ok) {
      this.#failed(`the firewall settings have problems: ${plan.problems.map(problemLine).join(" ")}`);
      return;
    }
    onSettings(plan.settings);
    const nftables = plan.backends.filter(({ name }) => name === "nftables");
    for (const backend of plan.wanted === "iptables" ? [] : nftables)
      if (!this.#wereInForce && (await backend.compare(plan.rules)).present) this.#wereInForce = true;
    if (plan.wanted === "iptables" || !this.#wereInForce) {
      await this.#options.trigger();
      this.#succeeded("firewall left to ec2metaproxy-firewall-repair.service");
      // The unit does not notice a request that comes while it runs.
      await this.#options.sleep(triggerAgainMs);
      await this.#options.trigger();
      return;
    }
    const { applied, tables } = await applyFirewall({ ...plan, wanted: "nftables" }, log, "keep");
    this.#tables = tables;
    this.#routes = plan.rules.guarded;
    this.#succeeded("firewall in place");
    if (applied.changed)
      log.warn(
        { code: "rules-restored", summary: applied.summary, ms: Math.round(now() - startedAt) },
        "the firewall rules were not as they should be, and were restored",
      );
  }

  #succeeded(state: string): void {
    if (this.#logged !== undefined) this.#options.log.info({}, `the firewall can be checked again: ${state}`);
    this.#logged = undefined;
    this.#state = state;
    this.#checked.resolve();
  }

  /** The previous rules are in force, or those that could not be read. */
  #failed(reason: string): void {
    this.#state = "FIREWALL NOT CHECKED";
    this.#checked.resolve();
    // Once for each reason, not for each attempt.
    if (reason !== this.#logged)
      this.#options.log.error(
        { code: "rules-unchecked", error: reason },
        "checking the firewall rules failed",
      );
    this.#logged = reason;
    if (!this.#isClosed) this.#cancelRetry = this.#options.schedule(retryMs, () => this.request());
  }
}
