import { isAbsolute } from "node:path";
import type { Problem } from "../errors.ts";
import { regionPattern, url } from "./values.ts";

/**
 * The values of the environment's variables, by the rules of the same values in config.json. Never quotes a
 * key, nor a proxy's password: what is wrong with those is said without them.
 */

export type Variables = Readonly<Record<string, string | undefined>>;

/** An empty variable counts as unset, as in the AWS SDKs. The first that is set, with its name. */
export function firstSet(
  variables: Variables,
  names: readonly string[],
): { readonly name: string; readonly value: string } | undefined {
  for (const name of names) {
    const value = variables[name];
    if (value !== undefined && value !== "") return { name, value };
  }
  return undefined;
}

const proxyNames = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
const regionNames = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const endpointNames = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"];
const directoryNames = ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"];

/** Everything that is wrong with the variables that the product reads, except DOCKER_HOST. */
export function environmentProblems(variables: Variables): readonly Problem[] {
  const check = (names: readonly string[], problem: (value: string, name: string) => Problem | undefined) =>
    names.flatMap((name) => {
      const value = variables[name] ?? "";
      return value === "" ? [] : (problem(value, name) ?? []);
    });
  return [
    ...check(proxyNames, proxyProblem),
    ...check(["NO_PROXY", "no_proxy"], noProxyProblem),
    ...check(endpointNames, endpointProblem),
    ...check(regionNames, regionProblem),
    ...keyProblems(variables),
    ...check(["AWS_CA_BUNDLE"], (value, name) =>
      isAbsolute(value)
        ? undefined
        : problem(
            name,
            `expected an absolute path, got ${JSON.stringify(value)}`,
            "A service has no folder of its own: write the whole path.",
          ),
    ),
    ...check(["NODE_TLS_REJECT_UNAUTHORIZED"], (value, name) =>
      value === "0"
        ? problem(
            name,
            "turns off the check of STS's certificate, so anybody on the way could read the credentials",
            "Remove it, and name your authority's PEM file in AWS_CA_BUNDLE.",
          )
        : undefined,
    ),
    ...check(directoryNames, (value, name) =>
      isAbsolute(value) && !value.includes(":")
        ? undefined
        : problem(
            name,
            `expected the absolute path of one directory, got ${JSON.stringify(value)}`,
            "systemd sets it: see RuntimeDirectory= and StateDirectory= of the unit.",
          ),
    ),
  ];
}

/** `HOST:PORT` means http://, as for curl and Go; Node would ignore it and connect directly. */
export function proxyUrl(value: string): string {
  return value.includes("://") ? value : `http://${value}`;
}

function proxyProblem(value: string, name: string): Problem | undefined {
  const hint = "Write http://HOST:PORT or HOST:PORT.";
  const shown = JSON.stringify(withoutUser(value));
  const scheme = /^([^/@]*):\/\//.exec(value)?.[1];
  if (scheme !== undefined && !/^https?$/i.test(scheme))
    return problem(
      name,
      `${scheme}:// is no HTTP proxy, got ${shown}`,
      `${hint} SOCKS proxies are not supported.`,
    );
  const parsed = URL.parse(proxyUrl(value));
  if (parsed === null || parsed.hostname === "" || /\s/.test(value))
    return problem(name, `expected the URL of an HTTP proxy, got ${shown}`, hint);
  // Without a scheme it may be a word like `none`; curl and Go do not agree on the port either.
  if (scheme === undefined && !/:\d+\/?$/.test(value))
    return problem(
      name,
      `expected a port after the host, got ${shown}`,
      `${hint} To use no proxy, remove ${name}.`,
    );
  if (parsed.pathname !== "/" || parsed.search + parsed.hash !== "")
    return problem(name, `expected nothing after host and port, got ${shown}`, hint);
  return undefined;
}

function withoutUser(value: string): string {
  return value.replace(/^([a-z]+:\/\/)?.*@/i, (_, scheme: string | undefined) => `${scheme ?? ""}…@`);
}

function noProxyProblem(value: string, name: string): Problem | undefined {
  const wrong = value.split(",").find((entry) => /:\/\/|["']/.test(entry) || /\S\s+\S/.test(entry));
  if (wrong === undefined) return undefined;
  return problem(
    name,
    `expected host names and addresses separated by commas, got ${JSON.stringify(wrong.trim())}`,
    "Write .example.com,10.0.0.1 or *, without schemes, quotes or spaces.",
  );
}

function endpointProblem(value: string, name: string): Problem | undefined {
  const parsed = url.safeParse(value);
  if (parsed.success) return undefined;
  const [issue] = parsed.error.issues;
  const hint = value.includes("://") ? "" : `Write https://${value.replace(/\/+$/, "")}.`;
  return problem(name, `${issue?.message ?? "not a URL"}, got ${JSON.stringify(value)}`, hint);
}

function regionProblem(value: string, name: string): Problem | undefined {
  if (regionPattern.test(value)) return undefined;
  const zone = /^(.+-\d+)[a-z]$/.exec(value)?.[1];
  const plain = value.trim().toLowerCase().replaceAll("_", "-");
  const meant =
    zone !== undefined && regionPattern.test(zone) ? zone : regionPattern.test(plain) ? plain : "";
  const what = zone !== undefined && meant === zone ? " (this is an availability zone)" : "";
  return problem(
    name,
    `expected a region such as eu-west-1, got ${JSON.stringify(value)}${what}`,
    meant === "" ? "" : `Write ${meant}.`,
  );
}

/** Half a set of keys would be ignored, and the host would be somebody else than the operator thinks. */
function keyProblems(variables: Variables): readonly Problem[] {
  const [id, secret, token] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(
    (name) => variables[name] ?? "",
  );
  const problems: Problem[] = [];
  const both =
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY together, or neither, to use the instance profile.";
  if (!id && secret)
    problems.push(problem("AWS_SECRET_ACCESS_KEY", "is set without AWS_ACCESS_KEY_ID", both));
  if (id && !secret)
    problems.push(problem("AWS_ACCESS_KEY_ID", "is set without AWS_SECRET_ACCESS_KEY", both));
  if (token && !id && !secret)
    problems.push(
      problem("AWS_SESSION_TOKEN", "is set without AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", both),
    );
  if (id && !/^\w{3,128}$/.test(id))
    problems.push(
      problem(
        "AWS_ACCESS_KEY_ID",
        `expected letters and digits, as in AKIAIOSFODNN7EXAMPLE; this has ${id.length} characters with others among them`,
        "Is it the secret key, or are its quotes part of it?",
      ),
    );
  for (const [name, value] of [
    ["AWS_SECRET_ACCESS_KEY", secret],
    ["AWS_SESSION_TOKEN", token],
  ] as const)
    if (value && !/^[\x21\x23-\x26\x28-\x7e]+$/.test(value))
      problems.push(
        problem(
          name,
          "has a quote, a space or another character that no key has",
          "Write it as AWS shows it.",
        ),
      );
  if (id && secret && /^ASIA/.test(id) && !token)
    problems.push(
      problem(
        "AWS_SESSION_TOKEN",
        "is missing: the access key id begins with ASIA, so the keys are temporary",
        "Set it, or use permanent keys (AKIA…).",
      ),
    );
  if (id && secret && /^AKIA/.test(id) && token)
    problems.push(
      problem(
        "AWS_SESSION_TOKEN",
        "is set, but the access key id begins with AKIA, so the keys are permanent and have none",
        "Remove it.",
      ),
    );
  return problems;
}

/** Variables that change what other programs do, and not this one. */
const ignored: readonly (readonly [name: RegExp, instead: string])[] = [
  [
    /^AWS_(DEFAULT_)?PROFILE$|^AWS_(SHARED_CREDENTIALS|CONFIG)_FILE$/,
    "Profiles and their files are not read: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use the instance profile. sts.assumeFirst assumes a role first.",
  ],
  [
    /^AWS_(ROLE_ARN|ROLE_SESSION_NAME|WEB_IDENTITY_TOKEN_FILE)$|^AWS_CONTAINER_/,
    "The host's credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the instance profile.",
  ],
  [
    /^AWS_EC2_METADATA_(SERVICE_ENDPOINT(_MODE)?|DISABLED|V1_DISABLED)$/,
    "Set metadataEndpoint in config.json.",
  ],
  [/^AWS_METADATA_SERVICE_(TIMEOUT|NUM_ATTEMPTS)$/, "The limits are fixed."],
  [/^AWS_USE_(FIPS|DUALSTACK)_ENDPOINT$/, "Set sts.useFips and sts.useDualstack in config.json."],
  [
    /^AWS_(STS_REGIONAL_ENDPOINTS|IGNORE_CONFIGURED_ENDPOINT_URLS)$/,
    "The regional endpoint is used; sts.endpoint in config.json names another.",
  ],
  [/^AWS_(MAX_ATTEMPTS|RETRY_MODE)$/, "Failed calls are always repeated: docs/credentials.md."],
  [/^(ALL_PROXY|all_proxy)$/, "Set HTTPS_PROXY."],
  [
    /^DOCKER_(TLS_VERIFY|TLS|CERT_PATH|CONTEXT|CONFIG|API_VERSION)$/,
    "Set dockerHost and dockerTls in config.json.",
  ],
  [/^CONTAINER_HOST$/, "Set dockerHost in config.json, or DOCKER_HOST."],
];

/** Variables that are set although nothing reads them: probably something was meant by them. */
export function ignoredVariables(variables: Variables): readonly Problem[] {
  return Object.entries(variables).flatMap(([name, value]) => {
    const instead = value ? ignored.find(([pattern]) => pattern.test(name))?.[1] : undefined;
    return instead === undefined ? [] : [problem(name, "is set, but ec2metaproxy does not read it", instead)];
  });
}

function problem(where: string, message: string, hint: string): Problem {
  return { where, message, hint };
}
