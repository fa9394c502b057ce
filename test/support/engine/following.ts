import { setTimeout as sleep } from "node:timers/promises";
import { Directory } from "../../../src/containers/directory.ts";
import {
  type Change,
  type EngineState,
  type WatchOptions,
  watchEngine,
} from "../../../src/engine/connection.ts";
import type { Log } from "../../../src/log.ts";
import { EngineStandIn, idOf, type StandInContainer } from "./engine.ts";

/** Short, so that a test sees several attempts in its time. */
export const times = {
  callTimeoutMs: 300,
  compareEveryMs: 60_000,
  retryMs: { first: 20, longest: 40, longestWhileItAnswers: 40 },
  refreshEveryMs: 10,
};

/** The clocks and the dice of this machine. */
export const clocks = { now: () => performance.now(), wallNow: Date.now, random: Math.random };

export function web(ipv4: string, name = "web"): StandInContainer {
  return { id: idOf(name), name, networks: { bridge: { ipv4 } }, env: ["IAM_ROLE=web"] };
}

/** A directory that follows a stand-in engine; `prepare` runs before the first connection. Ended with the test. */
export async function following(
  t: Tap,
  options: Partial<WatchOptions> = {},
  prepare = (_: EngineStandIn) => {},
) {
  const engine = await EngineStandIn.listen();
  prepare(engine);
  const directory = options.directory ?? new Directory();
  const changes: string[] = [];
  const states: EngineState[] = [];
  const logged: string[] = [];
  const say = (_: unknown, message: string) => void logged.push(message);
  const log: Log = { debug: () => {}, info: say, warn: say, error: say };
  const onChange = ({ kind, container }: Change) =>
    void changes.push(`${kind} ${container.name} ${container.pid > 0}`);
  const watch = watchEngine({
    host: engine.host,
    directory,
    log,
    onChange,
    onState: (state) => void states.push(state),
    times,
    ...clocks,
    ...options,
  });
  t.teardown(async () => {
    await watch.stop();
    await engine[Symbol.asyncDispose]();
  });
  await watch.settled;
  return { engine, directory, changes, states, logged, watch };
}

type Tap = { teardown(run: () => Promise<void>): void };

export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 1000) throw new Error(`waited in vain for ${what}`);
    await sleep(5);
  }
}
