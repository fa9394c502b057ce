import { setTimeout as delay } from "node:timers/promises";
import { TestHost } from "./host.ts";

/** Boots a host, prints its name and waits to be killed. smoke.test.ts kills it on purpose. */
const host = await TestHost.boot({ suite: "bookworm", name: "abandoned" });
process.stdout.write(`${host.name}\n`);
await delay(120_000);
await host[Symbol.asyncDispose]();
