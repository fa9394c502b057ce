import { setTimeout as sleep } from "node:timers/promises";
import { Directory } from "../../../src/containers/directory.ts";
import { type Change, type ConnectionOptions, followEngine } from "../../../src/engine/connection.ts";
import type { Log } from "../../../src/log.ts";
import { EngineStandIn, idOf, type StandInContainer } from "./stand-in.ts";

/** Short, so that a test sees several attempts. */
export const times = {
  callTimeoutMs: 300,
  compareEveryMs: 60_000,
  retryMs: { first: 20, max: 40, maxAfterAnswer: 40 },
  refreshEveryMs: 10,
};

/** This machine's clocks and random numbers. */
export const clocks = { now: () => performance.now(), wallNow: Date.now, random: Math.random };

export function web(ipv4: string, name = "web"): StandInContainer {
  return { id: idOf(name), name, networks: { bridge: { ipv4 } }, env: ["IAM_ROLE=web"] };
}

/** A directory that follows a stand-in engine until the test ends. `prepare` runs before it connects. */
export async function following(
  t: Tap,
  options: Partial<ConnectionOptions> = {},
  prepare = (_: EngineStandIn) => {},
) {
  const engine = await EngineStandIn.listen();
  prepare(engine);
  const directory = options.directory ?? new Directory();
  const changes: string[] = [];
  const logged: string[] = [];
  const record = (_: unknown, message: string) => void logged.push(message);
  const log: Log = { debug: () => {}, info: record, warn: record, error: record };
  const onChange = ({ kind, container }: Change) =>
    void changes.push(`${kind} ${container.name} ${container.pid > 0}`);
  const connection = followEngine({
    host: engine.host,
    directory,
    log,
    onChange,
    times,
    ...clocks,
    ...options,
  });
  t.teardown(async () => {
    await connection.stop();
    await engine[Symbol.asyncDispose]();
  });
  await connection.settled;
  return { engine, directory, changes, logged, connection };
}

type Tap = { teardown(run: () => Promise<void>): void };

export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries += 1) {
    if (tries > 1000) throw new Error(`timed out waiting for ${what}`);
    await sleep(5);
  }
}
