import t from "tap";
import { parse } from "../../src/cli.ts";
import { OperatorError } from "../../src/errors.ts";

const arn = "arn:aws:iam::123456789012:role/d";

const accepted: readonly [string, readonly string[], object][] = [
  ["nothing is serve", [], { command: "serve", configPath: undefined, overrides: {} }],
  ["the fork's -c", ["-c", "x.json"], { command: "serve", configPath: "x.json" }],
  ["serve with a file", ["serve", "--config", "x.json"], { command: "serve", configPath: "x.json" }],
  [
    "the first program's long flags",
    [
      "--server",
      ":1",
      "--default-iam-role",
      arn,
      "--default-iam-policy",
      "{}",
      "--metadata-url",
      "http://x",
      "--docker-endpoint",
      "/s",
      "--verbose",
    ],
    {
      overrides: {
        listen: ":1",
        defaultRoleArn: arn,
        defaultPolicy: "{}",
        metadataEndpoint: "http://x",
        dockerHost: "/s",
        verbose: true,
      },
    },
  ],
  [
    "the first program's short flags",
    ["-s", ":1", "-r", arn],
    { overrides: { listen: ":1", defaultRoleArn: arn } },
  ],
  [
    "iam-docker's flags with one dash",
    ["-disable-upstream", "-meta-data-api", "http://x"],
    { overrides: { passthrough: false, metadataEndpoint: "http://x" } },
  ],
  [
    "check",
    ["check", "--config-only", "-c", "x"],
    { command: "check", configOnly: true, configPath: "x", json: false },
  ],
  [
    "serve with a guard",
    ["serve", "--guard", "/run/g.sock"],
    { command: "serve", guard: "/run/g.sock", overrides: {} },
  ],
  ["a guard without a command", ["--guard", "/run/g.sock"], { command: "serve", guard: "/run/g.sock" }],
  ["check with a probe", ["check", "--probe"], { command: "check", probe: true, configOnly: false }],
  ["firewall status with a probe", ["firewall", "status", "--probe"], { action: "status", probe: true }],
  ["check with a guard", ["check", "--guard", "/run/g.sock"], { command: "check", guard: "/run/g.sock" }],
  ["explain with a guard", ["explain", "web", "--guard", "/g"], { command: "explain", guard: "/g" }],
  ["status", ["status", "--json"], { command: "status", json: true, watch: false }],
  ["status --watch", ["status", "--watch"], { command: "status", json: false, watch: true }],
  ["explain", ["explain", "web"], { command: "explain", container: "web" }],
  [
    "firewall",
    ["firewall", "apply", "--backend", "iptables", "--settings", "/d"],
    { command: "firewall", action: "apply", backend: "iptables", settingsDirectory: "/d" },
  ],
  ["version", ["--version"], { command: "version" }],
  ["version as a command", ["version"], { command: "version" }],
  ["help", ["--help"], { command: "help", of: undefined }],
  ["help as a command", ["help"], { command: "help", of: undefined }],
  ["a command's help", ["firewall", "--help"], { command: "help", of: "firewall" }],
  ["a command's short help", ["explain", "-h"], { command: "help", of: "explain" }],
  ["help with a command", ["help", "check"], { command: "help", of: "check" }],
];

for (const [name, argv, expected] of accepted) {
  t.test(`${name}: ec2metaproxy ${argv.join(" ")}`, (t) => {
    t.match(parse(argv), expected);
    t.end();
  });
}

const refused: readonly (readonly [argv: readonly string[], message: RegExp, hint?: RegExp])[] = [
  [["srve"], /there is no command "srve"/, /^Did you mean "serve"\? ec2metaproxy --help/],
  [["chek"], /there is no command "chek"/, /^Did you mean "check"\?/],
  [["Status"], /there is no command "Status"/, /^Did you mean "status"\?/],
  [["help", "chek"], /there is no command "chek"/, /^Did you mean "check"\?/],
  [["xyzzy"], /there is no command "xyzzy"/, /^ec2metaproxy --help/],
  [["check", "--jsn"], /--jsn/, /^Did you mean "--json"\?/],
  [["status", "--config-only"], /status takes no --config-only/, /ec2metaproxy status --help/],
  [["version", "x"], /takes no operand "x"/],
  [["--frobnicate"], /--frobnicate/],
  [["check", "--verbose"], /check takes no --verbose/],
  [["explain"], /needs a container/],
  [["explain", "a", "b"], /takes no operand "b"/],
  [["check", "--probe", "--config-only"], /exclude each other/],
  [["status", "--probe"], /status takes no --probe/],
  [["firewall", "apply", "--probe"], /firewall apply takes no --probe/],
  [["firewall"], /needs one of apply/],
  [["firewall", "aply"], /not "aply"/, /^Did you mean "apply"\? ec2metaproxy firewall --help/],
  [["firewall", "apply", "--backend", "pf"], /nftables or iptables, not "pf"/],
  [["serve", "x.json"], /takes no operand/],
  [["serve", "--guard", ""], /--guard needs a socket's path/],
  [["status", "--guard", "/g"], /status takes no --guard/],
  [["check", "--watch"], /check takes no --watch/],
  [["serve", "--guard", "/g", "--docker-endpoint", "/d"], /exclude each other/],
  [["-c"], /config/],
  [["-c", ""], /--config needs a file's path/],
  [["check", "--config="], /--config needs a file's path/],
  [["firewall", "apply", "--settings", ""], /--settings needs a directory's path/],
];

for (const [argv, expected, hint] of refused) {
  t.test(`refused with exit code 64: ec2metaproxy ${argv.join(" ")}`, (t) => {
    try {
      parse(argv);
      t.fail("was accepted");
    } catch (error) {
      t.ok(error instanceof OperatorError && error.exitCode === 64);
      t.match(error instanceof Error ? error.message : "", expected);
      if (hint !== undefined) t.match(error instanceof OperatorError && error.hint, hint);
    }
    t.end();
  });
}
