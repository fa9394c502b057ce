import type { Comparison } from "./backend.ts";
import type { HostSources } from "./bridge-table.ts";

/** The filter below IP: what keeps containers from speaking as the host on a bridge. */
export type FrameFilter = {
  /** What `status` calls it. */
  readonly place: string;
  /** What it cannot refuse; empty where it refuses all. */
  readonly open: string;
  render(sources: HostSources): string;
  /**
   * Why this host cannot take the rules; undefined where it can. Changes nothing.
   * @throws OperatorError 69 for a failure that says nothing about the host
   */
  obstacle(sources: HostSources): Promise<string | undefined>;
  compare(sources: HostSources): Promise<Comparison>;
  /** All or nothing. @returns what brings the former rules back */
  apply(sources: HostSources): Promise<() => Promise<void>>;
  /** True if there was something to remove. */
  remove(): Promise<boolean>;
};
