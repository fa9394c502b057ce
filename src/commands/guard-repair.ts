import { explain, problemLine } from "../errors.ts";
import { inPlace } from "../firewall/backend.ts";
import { mustRun, type Run } from "../firewall/command.ts";
import { applyGuard, type Guard, missingFromGuard } from "../firewall/route-guard.ts";
import type { Settings } from "../firewall/settings.ts";
import type { HostState } from "../guard/protocol.ts";
import type { Log } from "../log.ts";
import { TokenBucket } from "../token-bucket.ts";
import { applyFirewall } from "./firewall-apply.ts";
import type { FirewallPlan, planFirewall } from "./firewall-plan.ts";

type Options = {
  /** Reads the settings, which may have changed. */
  readonly plan: () => ReturnType<typeof planFirewall>;
  readonly run: Run;
  /** Starts the unit that repairs iptables' rules, which takes privileges that the guard does not have. */
  readonly trigger: () => Promise<void>;
  /**
   * For how many milliseconds it has been since that unit found the rules in place; undefined if it has not.
   */
  readonly confirmedMs: () => Promise<number | undefined>;
  /** Called with the settings of each check. */
  readonly onSettings: (settings: Settings) => void;
  /** Called when `firewall()` has changed. */
  readonly onState: () => void;
  readonly log: Log;
  /** A monotonic clock in milliseconds. */
  readonly now: () => number;
  /** The wall clock, milliseconds since the epoch. */
  readonly wallNow: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** @returns a function that cancels */
  readonly schedule: (delayMs: number, act: () => void) => () => void;
};

/** Another program may remove our rules each time that they are restored. Two checks follow a restoration. */
const checksPerSecond = 4;
const retryMs = 10_000;
/** A run of the repair unit takes less. */
const triggerAgainMs = 1_000;
/** How often to look at rules whose changes no monitor reports. */
const lookAgainMs = 30_000;
/** Two rounds of the timer that starts the repair unit, and some more. */
const confirmationMs = 150_000;
/** The longest that the repair unit normally takes. */
const repairMs = 3_000;
/** Characters. The proxy shows it in one line. */
const maxReason = 500;

type FirewallState = HostState["firewall"];

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
  #cancelLook: (() => void) | undefined;
  #unconfirmedSince: number | undefined;
  #firewall: FirewallState;
  #isLeftToUnit = false;
  #logged: string | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#rate = new TokenBucket(checksPerSecond, options.now());
    this.#firewall = { state: "unknown", since: options.wallNow(), reason: "not checked yet" };
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

  /** Whether the rules are in force, as far as the guard can tell. */
  firewall(): FirewallState {
    return this.#firewall;
  }

  /** In a few words, for the status line. */
  state(): string {
    const { state, reason } = this.#firewall;
    const unit = this.#isLeftToUnit ? "; left to ec2metaproxy-firewall-repair.service" : "";
    switch (state) {
      case "in-force":
        return `firewall in place${unit}`;
      case "not-in-force":
        return `FIREWALL NOT IN FORCE: ${reason}${unit}`;
      case "check-failed":
        return "FIREWALL NOT CHECKED";
      case "unknown":
        return `firewall ${reason}${unit}`;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#cancelLook?.();
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
    this.#cancelLook?.();
    const nftables = plan.backends.filter(({ name }) => name === "nftables");
    for (const backend of plan.wanted === "iptables" ? [] : nftables)
      if (!this.#wereInForce && (await backend.compare(plan.rules)).present) this.#wereInForce = true;
    if (plan.wanted === "iptables" || !this.#wereInForce) {
      await this.#options.trigger();
      this.#succeeded(true, this.#firewall);
      // The unit does not notice a request that comes while it runs.
      await this.#options.sleep(triggerAgainMs);
      await this.#options.trigger();
      this.#note(await this.#afterRepair(plan));
      this.#lookLater();
      return;
    }
    const { applied, tables } = await applyFirewall({ ...plan, wanted: "nftables" }, log, "keep");
    this.#tables = tables;
    this.#routes = plan.rules.guarded;
    this.#succeeded(false, { state: "in-force", reason: "" });
    if (applied.changed)
      log.warn(
        { code: "rules-restored", summary: applied.summary, ms: Math.round(now() - startedAt) },
        "the firewall rules were not as they should be, and were restored",
      );
  }

  /** Whether rules that the guard did not make are in force. It may be unable to read them. */
  async #look({ wanted, backends, rules }: FirewallPlan): Promise<Omit<FirewallState, "since">> {
    const problems: string[] = [];
    for (const backend of backends.filter(({ name }) => wanted === "auto" || wanted === name)) {
      try {
        const found = await backend.compare(rules);
        if (!found.present) continue;
        if (inPlace(found)) return this.#lookAtRoutes(rules);
        problems.push(
          `${backend.name}: ${found.missing.length} rules are missing, ${found.unexpected.length} do not belong there`,
        );
      } catch (error) {
        // iptables-legacy needs a capability that the guard does not have.
        return this.#confirmed(explain(error));
      }
    }
    return { state: "not-in-force", reason: problems.join("; ") || "there are no rules of ec2metaproxy" };
  }

  /** What the repair unit, which reads every rule, has found: its timer starts it each minute. */
  async #confirmed(whyUnreadable: string): Promise<Omit<FirewallState, "since">> {
    const { confirmedMs, now } = this.#options;
    const agoMs = await confirmedMs();
    if (agoMs !== undefined && agoMs < confirmationMs) {
      this.#unconfirmedSince = undefined;
      return { state: "in-force", reason: "" };
    }
    this.#unconfirmedSince ??= now();
    const why = `the guard cannot read the rules (${whyUnreadable})`;
    return now() - this.#unconfirmedSince < confirmationMs
      ? { state: "unknown", reason: why }
      : {
          state: "check-failed",
          reason: `${why}, and ec2metaproxy-firewall-repair.service has not found them in place: is ec2metaproxy-firewall.timer active?`,
        };
  }

  /** What is found once the unit has had the time for a repair, so that no alarm is given during one. */
  async #afterRepair(plan: FirewallPlan): Promise<Omit<FirewallState, "since">> {
    await this.#options.sleep(triggerAgainMs);
    const found = await this.#look(plan);
    if (found.state !== "not-in-force" || this.#isClosed) return found;
    await this.#options.sleep(repairMs);
    return this.#look(plan);
  }

  async #lookAtRoutes({ guarded }: FirewallPlan["rules"]): Promise<Omit<FirewallState, "since">> {
    const missing = guarded === undefined ? [] : await missingFromGuard(this.#options.run, guarded);
    return missing.length === 0
      ? { state: "in-force", reason: "" }
      : { state: "not-in-force", reason: `${missing.length} routing rules are missing` };
  }

  #lookLater(): void {
    this.#cancelLook?.();
    if (this.#isClosed) return;
    this.#cancelLook = this.#options.schedule(lookAgainMs, () => void this.#lookAgain());
  }

  /** Never rejects. A check that began meanwhile knows more. */
  async #lookAgain(): Promise<void> {
    try {
      const plan = await this.#options.plan();
      const found = plan.ok ? await this.#look(plan) : undefined;
      if (found !== undefined && !this.#isWorking && !this.#isClosed) this.#note(found);
    } catch (error) {
      this.#options.log.debug({ err: error }, "looking at the firewall rules failed");
    }
    if (!this.#isWorking) this.#lookLater();
  }

  #note({ state, reason: found }: Omit<FirewallState, "since">): void {
    const { state: before, reason: reasonBefore } = this.#firewall;
    const reason = found.slice(0, maxReason);
    if (state === before && reason === reasonBefore) return;
    const since = state === before ? this.#firewall.since : this.#options.wallNow();
    this.#firewall = { state, since, reason };
    if (state === "not-in-force")
      this.#options.log.error(
        { code: "rules-not-in-force", reason },
        "the firewall rules are not in force: containers may reach the instance's own role",
      );
    else if (before === "not-in-force" && state === "in-force")
      this.#options.log.info({}, "the firewall rules are in force");
    this.#options.onState();
  }

  #succeeded(isLeftToUnit: boolean, found: Omit<FirewallState, "since">): void {
    this.#isLeftToUnit = isLeftToUnit;
    this.#note(found);
    if (this.#logged !== undefined)
      this.#options.log.info({}, `the firewall can be checked again: ${this.state()}`);
    this.#logged = undefined;
    this.#checked.resolve();
  }

  /** The previous rules are in force, or those that could not be read. */
  #failed(reason: string): void {
    this.#note({ state: "check-failed", reason });
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
