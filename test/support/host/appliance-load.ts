import { existsSync } from "node:fs";
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

// Requests credentials from a container's network, RATE times a second, each time on a new connection and
// always with the first token, until FILE exists. Prints one line of JSON. Runs on the test host: node
// appliance-load.ts RATE FILE

/** One request: when it started (ms since the epoch), how long it took, its result. */
export type Answer = { readonly at: number; readonly ms: number; readonly result: string };
export type LoadReport = {
  readonly total: number;
  /** How often each result occurred: an HTTP status, or an error's code. */
  readonly results: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  readonly failures: readonly Answer[];
};

const imds = "http://169.254.169.254/latest";
const credentials = `${imds}/meta-data/iam/security-credentials/`;

function send(
  method: string,
  url: string,
  headers: Readonly<Record<string, string>>,
): Promise<[string, string]> {
  return new Promise((resolve) => {
    const outgoing = request(url, { method, headers, agent: false, timeout: 10_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => resolve([String(response.statusCode), body]));
      response.on("error", (error: NodeJS.ErrnoException) => resolve([`cut off: ${error.code}`, ""]));
    });
    outgoing.on("timeout", () =>
      outgoing.destroy(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })),
    );
    outgoing.on("error", (error: NodeJS.ErrnoException) => resolve([error.code ?? error.message, ""]));
    outgoing.end();
  });
}

const [rate = "200", until = "/run/appliance-load-ends"] = process.argv.slice(2);
const [, token] = await send("PUT", `${imds}/api/token`, { "x-aws-ec2-metadata-token-ttl-seconds": "21600" });
const headers = { "x-aws-ec2-metadata-token": token };
const [, role] = await send("GET", credentials, headers);

const answers: Promise<Answer>[] = [];
const startedAt = performance.now();
while (!existsSync(until)) {
  // The clock sets the rate: timers fire late on a busy machine.
  while (answers.length < ((performance.now() - startedAt) / 1000) * Number(rate)) {
    const at = Date.now();
    answers.push(
      send("GET", credentials + role, headers).then(([result, body]) => ({
        at,
        ms: Date.now() - at,
        result: result === "200" && !body.includes('"Code" : "Success"') ? "200 without credentials" : result,
      })),
    );
  }
  await sleep(5);
}
const all = await Promise.all(answers);
const counts = Map.groupBy(all, ({ result }) => result);
const report: LoadReport = {
  total: all.length,
  results: Object.fromEntries([...counts].map(([result, of]) => [result, of.length])),
  slowestMs: Math.max(...all.map(({ ms }) => ms)),
  failures: all.filter(({ result }) => result !== "200").slice(0, 50),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
