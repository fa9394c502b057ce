import { join } from "node:path";
import t from "tap";
import { parse } from "../../../src/cli.ts";
import { configuration } from "../../../src/commands/configuration.ts";

const file = {
  listen: ":18001",
  defaultAlias: "web",
  aliasToARN: { web: "arn:aws:iam::123456789012:role/web" },
  dockerHost: "/run/file.sock",
  metadataEndpoint: "http://127.0.0.2",
};
const arn = "arn:aws:iam::123456789012:role/flag";
const policy = '{"Version":"2012-10-17","Statement":[]}';

/** The configuration that `ec2metaproxy -c FILE` has with these flags. */
async function withFlags(directory: string, flags: readonly string[]) {
  const command = parse(["-c", join(directory, "config.json"), ...flags]);
  if (command.command !== "serve") throw new Error("not serve");
  return configuration(command.configPath, command.overrides).read();
}

for (const [flags, expected] of [
  [["-s", ":19000"], { listen: ":19000" }],
  [["--server", "127.0.0.1:19000"], { listen: "127.0.0.1:19000" }],
  [["--metadata-url", "http://127.0.0.3"], { metadataEndpoint: "http://127.0.0.3" }],
  [["-meta-data-api", "http://127.0.0.3"], { metadataEndpoint: "http://127.0.0.3" }],
  [["--docker-endpoint", "/run/flag.sock"], { dockerHost: "/run/flag.sock" }],
  [["--default-iam-policy", policy], { defaultPolicy: policy }],
  [["--verbose"], { verbose: true }],
  [["-disable-upstream"], { passthrough: { enabled: false } }],
  [
    ["-r", arn],
    { defaultAlias: "default-iam-role", aliasToARN: { web: file.aliasToARN.web, "default-iam-role": arn } },
  ],
] as const)
  t.test(`${flags[0]} overrides the file, and leaves its other keys`, async (t) => {
    const directory = t.testdir({ "config.json": JSON.stringify(file) });
    const plain = await withFlags(directory, []);
    t.match(plain, file);
    const config = await withFlags(directory, flags);
    t.match(config, expected);
    for (const key of ["listen", "dockerHost", "metadataEndpoint"] as const)
      if (!(key in expected)) t.equal(config[key], plain[key], key);
  });
