import { account, asks, type Case, iamProfile, roleAlias, testCases } from "./cases.ts";

/** Aliases `web` and `db` are open to every container, `ops` is not; see cases.ts. */
// biome-ignore format: a table
const requests: readonly Case[] = [
  { is: "label RoleAlias with an alias", container: asks("web"), gets: "web", by: `label ${roleAlias}`, says: "open to every container" },
  { is: "label RoleAlias with an alias's ARN", container: asks(`${account}/data/db`), gets: "db" },
  { is: "label iam-profile with an ARN", container: { labels: { [iamProfile]: `${account}/web` } }, gets: "web", by: `label ${iamProfile}` },
  { is: "label iam-profile with an alias", container: { labels: { [iamProfile]: "db" } }, gets: "db" },
  { is: "IAM_ROLE with an ARN", container: { env: { IAM_ROLE: `${account}/web` } }, gets: "web", by: "env IAM_ROLE" },
  { is: "IAM_ROLE with an alias", container: { env: { IAM_ROLE: "db" } }, gets: "db", by: "env IAM_ROLE" },
  { is: "RoleAlias takes precedence over iam-profile and IAM_ROLE", container: { labels: { [roleAlias]: "web", [iamProfile]: "db" }, env: { IAM_ROLE: "db" } }, gets: "web", by: `label ${roleAlias}` },
  { is: "iam-profile takes precedence over IAM_ROLE", container: { labels: { [iamProfile]: "db" }, env: { IAM_ROLE: "web" } }, gets: "db" },
  { is: "IAM_ROLE does not replace a refused label", container: { ...asks("nobody"), env: { IAM_ROLE: "web" } }, gets: "unknown-alias" },
  { is: "white space around a value is removed", container: { env: { IAM_ROLE: ` ${account}/web\n` } }, gets: "web" },
  { is: "an empty label requests nothing, so the variable counts", container: { ...asks(""), env: { IAM_ROLE: "web" } }, gets: "web", by: "env IAM_ROLE" },
  { is: "an empty variable means the default", config: { defaultAlias: "db" }, container: { env: { IAM_ROLE: "" } }, gets: "db", by: "defaultAlias" },
  { is: "a blank label means the default", config: { defaultAlias: "db" }, container: asks(" \t "), gets: "db", by: "defaultAlias" },
  { is: "no request and no default", gets: "no-role-requested", says: "no defaultAlias" },
  { is: "no request but a default", config: { defaultAlias: "web" }, gets: "web", by: "defaultAlias" },
  { is: "an unknown alias never becomes the default", config: { defaultAlias: "web" }, container: asks("wbe"), gets: "unknown-alias", says: '"wbe"' },
  { is: "an alias in another letter case is unknown", container: asks("Web"), gets: "unknown-alias" },
  { is: "a label with another name requests nothing", container: { labels: { "EC2metaproxy.rolealias": "web" } }, gets: "no-role-requested" },
  { is: "with requireLabel, the default does not apply without a request", config: { defaultAlias: "web", requireLabel: true }, gets: "label-required" },
  { is: "requireLabel and an empty label", config: { defaultAlias: "web", requireLabel: true }, container: asks(""), gets: "label-required" },
  { is: "requireLabel and a variable", config: { requireLabel: true }, container: { env: { IAM_ROLE: "web" } }, gets: "web" },
  { is: "requireLabel without a default", config: { requireLabel: true }, gets: "no-role-requested" },
  { is: "an alias of the long form", container: { ...asks("ops"), image: "registry.example.com/ops/tool:1" }, gets: "ops" },
];

// biome-ignore format: a table
const nasty: readonly Case[] = [
  ...["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "__defineGetter__"].map((value): Case => ({ is: `a request for ${value}`, container: asks(value), gets: "unknown-alias" })),
  { is: "an alias named constructor", config: { aliasToARN: { constructor: `${account}/c` } }, container: asks("constructor"), gets: "constructor" },
  { is: "a label named constructor does not exist on every container", config: { aliases: { a: { roleArn: `${account}/a`, allow: { labels: { constructor: "*" } } } } }, container: asks("a"), gets: "alias-not-allowed" },
  { is: "a megabyte", container: asks("x".repeat(1_000_000)), gets: "unknown-alias", says: /^.{0,250}$/ },
  { is: "a megabyte of ARN", config: { allowRoleArns: [`${account}/*`] }, container: asks(`${account}/${"x/".repeat(500_000)}x`), gets: "invalid-role", says: /^.{0,500}$/ },
  { is: "a terminal's control characters", container: asks("web\u001b[2J\u009b1m\u0007"), gets: "unknown-alias" },
  { is: "a line break that would forge a log line", container: asks("web\nlevel=info granted"), gets: "unknown-alias" },
  { is: "text direction overrides", container: asks("web\u202e\u2066"), gets: "unknown-alias" },
  { is: "letters that look like those of an alias", container: asks("wеb"), gets: "unknown-alias" },
  { is: "an alias in Unicode", config: { aliasToARN: { Größe東: `${account}/u` } }, container: asks("Größe東"), gets: "Größe東" },
  { is: "the same letters in another Unicode normalization are another name", config: { aliasToARN: { é: `${account}/u` } }, container: asks("e\u0301"), gets: "unknown-alias" },
  { is: "an unpaired surrogate", container: asks("web\ud800"), gets: "unknown-alias" },
  { is: "a glob is not an alias", container: asks("*"), gets: "unknown-alias" },
  { is: "two aliases in one value", container: asks("web,db"), gets: "unknown-alias" },
];

const vm = { source: "static", image: "", id: "static:10.0.3.5", name: "vm-1", labels: {}, env: {} } as const;
// biome-ignore format: a table
const statics: readonly Case[] = [
  { is: "a static container with an alias", container: { ...vm, staticAlias: "db" }, gets: "db", by: "staticContainers" },
  { is: "a static container without one", config: { defaultAlias: "web" }, container: vm, gets: "web", by: "defaultAlias" },
  { is: "a static container without one, no default", container: vm, gets: "no-role-requested" },
  { is: "the labels of a static container are ignored", container: { ...vm, staticAlias: "db", ...asks("web") }, gets: "db" },
  { is: "a container from an engine has no static alias", container: { staticAlias: "db" }, gets: "no-role-requested" },
  { is: "an alias that does not admit the static container", container: { ...vm, staticAlias: "ops" }, gets: "alias-not-allowed", by: "staticContainers" },
];

// A label takes precedence over a variable, and both over the default.
testCases(requests);

// Hostile values are only ever names.
testCases(nasty);

// A static container has the alias from the configuration.
testCases(statics);
