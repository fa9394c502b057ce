import t from "tap";
import { environmentProblems, ignoredVariables, proxyUrl } from "../../../src/config/environment.ts";
import { readEnvironment } from "../../../src/config/load.ts";

const keys = { AWS_ACCESS_KEY_ID: "AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY: "wJalrXUtnFEMI/K7MDENG" };
const temporary = { ...keys, AWS_ACCESS_KEY_ID: "ASIAIOSFODNN7EXAMPLE", AWS_SESSION_TOKEN: "IQoJb3JpZ2lu==" };

const usable: readonly Readonly<Record<string, string>>[] = [
  {},
  keys,
  temporary,
  { HTTPS_PROXY: "127.0.0.1:3128" },
  { HTTPS_PROXY: "http://proxy.example" },
  { HTTPS_PROXY: "https://user:p%40ss@proxy.example:3128/" },
  { http_proxy: "[::1]:3128" },
  { NO_PROXY: "*" },
  { NO_PROXY: "localhost, 169.254.169.254,.example.com,10.0.0.0/8" },
  { AWS_ENDPOINT_URL: "http://localhost:4566" },
  { AWS_ENDPOINT_URL_STS: "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com/" },
  { AWS_REGION: "us-gov-west-1" },
  { AWS_REGION: "us-isob-east-1", AWS_DEFAULT_REGION: "eusc-de-east-1" },
  { AWS_CA_BUNDLE: "/etc/pki/corporate.pem" },
  { RUNTIME_DIRECTORY: "/run/ec2metaproxy" },
  { NODE_TLS_REJECT_UNAUTHORIZED: "1" },
];
for (const variables of usable)
  t.test(`${JSON.stringify(variables)} is usable`, async (t) => {
    t.same(environmentProblems(variables), []);
  });

for (const { variables, name, message, hint } of [
  {
    variables: { HTTPS_PROXY: "none" },
    name: "HTTPS_PROXY",
    message: /expected a port.*"none"/,
    hint: /remove HTTPS_PROXY/,
  },
  { variables: { HTTPS_PROXY: "proxy.example" }, name: "HTTPS_PROXY", message: /expected a port/ },
  {
    variables: { https_proxy: "socks5://127.0.0.1:1080" },
    name: "https_proxy",
    message: /socks5:\/\/ is no HTTP proxy/,
    hint: /SOCKS/,
  },
  { variables: { HTTP_PROXY: "http://" }, name: "HTTP_PROXY", message: /expected the URL/ },
  {
    variables: { HTTP_PROXY: '"http://p:1"' },
    name: "HTTP_PROXY",
    message: /no HTTP proxy|expected the URL/,
  },
  { variables: { HTTPS_PROXY: "http://p:3128/path" }, name: "HTTPS_PROXY", message: /nothing after/ },
  { variables: { HTTPS_PROXY: "http://p:99999" }, name: "HTTPS_PROXY", message: /expected the URL/ },
  { variables: { HTTPS_PROXY: "socks5://user:hunter2@p:1" }, name: "HTTPS_PROXY", message: /^(?!.*hunter2)/ },
  { variables: { NO_PROXY: "http://a.example" }, name: "NO_PROXY", message: /"http:\/\/a\.example"/ },
  { variables: { no_proxy: "a.example b.example" }, name: "no_proxy", message: /commas/ },
  {
    variables: { AWS_ENDPOINT_URL_STS: "sts.eu-west-1.amazonaws.com" },
    name: "AWS_ENDPOINT_URL_STS",
    message: /https:\/\/ URL.*got "sts/,
    hint: /Write https:\/\/sts\.eu-west-1/,
  },
  {
    variables: { AWS_ENDPOINT_URL: "https://sts.example/path" },
    name: "AWS_ENDPOINT_URL",
    message: /without a path/,
  },
  {
    variables: { AWS_REGION: "us_east_1" },
    name: "AWS_REGION",
    message: /"us_east_1"/,
    hint: /Write us-east-1/,
  },
  {
    variables: { AWS_REGION: "us-east-1a" },
    name: "AWS_REGION",
    message: /availability zone/,
    hint: /Write us-east-1\./,
  },
  {
    variables: { AWS_REGION: "US-EAST-1" },
    name: "AWS_REGION",
    message: /expected a region/,
    hint: /Write us-east-1/,
  },
  {
    variables: { AWS_DEFAULT_REGION: "Frankfurt" },
    name: "AWS_DEFAULT_REGION",
    message: /expected a region/,
  },
  {
    variables: { AWS_ACCESS_KEY_ID: "AKIAIOSFODNN7EXAMPLE" },
    name: "AWS_ACCESS_KEY_ID",
    message: /without AWS_SECRET_ACCESS_KEY/,
  },
  {
    variables: { AWS_SECRET_ACCESS_KEY: "hunter2" },
    name: "AWS_SECRET_ACCESS_KEY",
    message: /^(?!.*hunter2).*without AWS_ACCESS_KEY_ID/,
  },
  {
    variables: { AWS_SESSION_TOKEN: "hunter2" },
    name: "AWS_SESSION_TOKEN",
    message: /^(?!.*hunter2).*without/,
  },
  {
    variables: { ...keys, AWS_ACCESS_KEY_ID: "hunter2/secret+key" },
    name: "AWS_ACCESS_KEY_ID",
    message: /^(?!.*hunter2).*18 characters/,
  },
  {
    variables: { ...keys, AWS_SECRET_ACCESS_KEY: '"hunter2"' },
    name: "AWS_SECRET_ACCESS_KEY",
    message: /^(?!.*hunter2).*a quote/,
  },
  {
    variables: { ...temporary, AWS_SESSION_TOKEN: "" },
    name: "AWS_SESSION_TOKEN",
    message: /is missing.*ASIA/,
  },
  {
    variables: { ...keys, AWS_SESSION_TOKEN: "hunter2" },
    name: "AWS_SESSION_TOKEN",
    message: /^(?!.*hunter2).*AKIA/,
    hint: /Remove it/,
  },
  { variables: { AWS_CA_BUNDLE: "ca.pem" }, name: "AWS_CA_BUNDLE", message: /absolute path/ },
  {
    variables: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
    name: "NODE_TLS_REJECT_UNAUTHORIZED",
    message: /turns off/,
    hint: /AWS_CA_BUNDLE/,
  },
  { variables: { RUNTIME_DIRECTORY: "/run/a:/run/b" }, name: "RUNTIME_DIRECTORY", message: /one directory/ },
  { variables: { STATE_DIRECTORY: "state" }, name: "STATE_DIRECTORY", message: /absolute/ },
] as const)
  t.test(`${JSON.stringify(variables)} is a problem of ${name}`, async (t) => {
    const [found, ...more] = environmentProblems(variables);
    t.same(more, [], "one problem, not several");
    t.equal(found?.where, name);
    t.match(found?.message, message);
    if (hint !== undefined) t.match(found?.hint, hint);
  });

t.test("all problems come at once", async (t) => {
  const found = environmentProblems({ HTTPS_PROXY: "none", AWS_REGION: "x", AWS_SESSION_TOKEN: "t" });
  t.same(
    found.map(({ where }) => where),
    ["HTTPS_PROXY", "AWS_REGION", "AWS_SESSION_TOKEN"],
  );
});

t.test("a proxy without a scheme is http://, as for curl and Go", async (t) => {
  t.equal(proxyUrl("127.0.0.1:3128"), "http://127.0.0.1:3128");
  t.same(readEnvironment({ https_proxy: "127.0.0.1:3128", NO_PROXY: "a" }).proxy, {
    HTTPS_PROXY: "http://127.0.0.1:3128",
    NO_PROXY: "a",
  });
});

for (const name of [
  "AWS_PROFILE",
  "AWS_DEFAULT_PROFILE",
  "AWS_SHARED_CREDENTIALS_FILE",
  "AWS_CONFIG_FILE",
  "AWS_WEB_IDENTITY_TOKEN_FILE",
  "AWS_CONTAINER_CREDENTIALS_FULL_URI",
  "AWS_EC2_METADATA_DISABLED",
  "AWS_EC2_METADATA_SERVICE_ENDPOINT",
  "AWS_USE_FIPS_ENDPOINT",
  "ALL_PROXY",
  "DOCKER_TLS_VERIFY",
  "DOCKER_CERT_PATH",
])
  t.test(`${name} is not read, and it is said what to set instead`, async (t) => {
    const [found] = ignoredVariables({ [name]: "x", PATH: "/bin", AWS_REGION: "eu-west-1" });
    t.match(found, { where: name, message: /does not read it/, hint: /\.$/ });
    t.same(ignoredVariables({ [name]: "" }), [], "an empty one counts as unset");
  });
