import { spawnSync } from "node:child_process";
import { join } from "node:path";
import t from "tap";
import { bundle } from "../../../scripts/build/bundle.ts";

const root = join(import.meta.dirname, "../../..");

/** What the packaged program loads with this file: at once, or at any time, which includes `import()`. */
async function loadedBy(t: { testdir(): string }, file: string, when: "at once" | "ever") {
  const info = { version: "1", commit: "1", date: "2026-01-01" };
  const { inputs } = await bundle(root, join(root, "src", file), join(t.testdir(), "bundle.cjs"), info);
  const loaded = new Set<string>();
  const visit = (path: string) => {
    if (loaded.has(path)) return;
    loaded.add(path);
    for (const { path: next, kind } of inputs[path]?.imports ?? [])
      if (when === "ever" || kind !== "dynamic-import") visit(next);
  };
  visit(`src/${file}`);
  return [...loaded];
}

const forbidden: readonly (readonly [string, RegExp])[] = [
  ["the AWS SDK", /node_modules\/@(aws-sdk|smithy|aws-crypto)\//],
  ["the HTTP server", /^src\/imds\/(server|handler|admission|fair-share|connection|upstream\S*)\.ts$/],
  ["the code that assumes roles", /^src\/credentials\/(?!clock\.ts$)/],
  ["prom-client", /node_modules\/prom-client\//],
];
for (const [what, pattern] of forbidden)
  t.test(`the guard does not load ${what}, and the proxy would`, async (t) => {
    t.same(
      (await loadedBy(t, "commands/guard.ts", "ever")).filter((path) => pattern.test(path)),
      [],
    );
    t.not((await loadedBy(t, "commands/serve.ts", "ever")).filter((path) => pattern.test(path)).length, 0);
  });

t.test("main loads no command before it has read the arguments", async (t) => {
  t.same(
    (await loadedBy(t, "main.ts", "at once")).filter((path) => /^src\/commands\//.test(path)),
    [],
  );
});

t.test("without a directory for its socket, the guard does not start and says what to do", async (t) => {
  const config = join(t.testdir({ "config.json": "{}" }), "config.json");
  const { status, stderr } = spawnSync(process.execPath, [join(root, "src/main.ts"), "guard", "-c", config], {
    encoding: "utf8",
    env: { PATH: process.env.PATH },
  });
  t.equal(status, 78);
  t.match(stderr, /RUNTIME_DIRECTORY is not set.*\n.*systemctl start ec2metaproxy-guard/);
});
