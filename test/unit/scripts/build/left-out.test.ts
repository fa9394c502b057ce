import { createRequire } from "node:module";
import { join } from "node:path";
import { build } from "esbuild";
import t from "tap";
import { leaveOut } from "../../../../scripts/build/left-out.ts";

const root = join(import.meta.dirname, "../../../..");
const require = createRequire(import.meta.url);

/** Bundles the source as the executable is bundled, and loads it. */
async function bundled(folder: string, source: string): Promise<Record<string, () => unknown>> {
  const outfile = join(folder, "out.cjs");
  await build({
    stdin: { contents: source, resolveDir: root },
    outfile,
    bundle: true,
    platform: "node",
    format: "cjs",
    mainFields: ["module", "main"],
    plugins: [leaveOut],
    logLevel: "silent",
  });
  return require(outfile);
}

for (const [what, source] of [
  [
    "imported from an ES module",
    `import { defaultProvider } from "@aws-sdk/credential-provider-node";
    export const call = () => defaultProvider({});`,
  ],
  [
    "required from a CommonJS module",
    `const { Client } = require("ssh2"); exports.call = () => new Client();`,
  ],
] as const) {
  t.test(`a package that is left out loads, and its use says why it is missing: ${what}`, async (t) => {
    const { call } = await bundled(t.testdir({}), source);
    t.throws(
      () => call?.(),
      /is left out of this executable \((the SDK's own search|Docker engines over ssh)/,
    );
  });
}

t.test("every other package is bundled as it is", async (t) => {
  const { call } = await bundled(
    t.testdir({}),
    `import leven from "leven"; export const call = () => leven("cat", "cow");`,
  );
  t.equal(call?.(), 2);
});
