import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Test } from "tap";
import { configSchema } from "../../../src/config/schema.ts";
import type { Container } from "../../../src/containers/container.ts";
import { Directory, staticContainer } from "../../../src/containers/directory.ts";
import { Provenance } from "../../../src/containers/provenance.ts";
import { CredentialCache } from "../../../src/credentials/cache.ts";
import { openSts } from "../../../src/credentials/sts.ts";
import { type Answer, errorAnswers } from "../../../src/imds/answers.ts";
import { Callers } from "../../../src/imds/callers.ts";
import { containerCredentialsHandler, turnedAwayDocument } from "../../../src/imds/container-credentials.ts";
import { openDoor } from "../../../src/imds/door.ts";
import { type ImdsDependencies, imdsHandler, type Refusal } from "../../../src/imds/handler.ts";
import { passthroughPolicy } from "../../../src/imds/policy.ts";
import { imdsServer } from "../../../src/imds/server.ts";
import { sessionTokens } from "../../../src/imds/session-token.ts";
import type { TurnedAway } from "../../../src/imds/turn-away.ts";
import { Upstream } from "../../../src/imds/upstream.ts";
import { MetadataClient } from "../../../src/metadata/client.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { account } from "../../support/aws/account.ts";
import { type AwsOptions, startAws } from "../../support/aws/aws.ts";
import { ask, type RawAnswer } from "../../support/raw-http.ts";

export const roleArn = (name: string) => `arn:aws:iam::${account.id}:role/containers/${name}`;
export const listPath = "/latest/meta-data/iam/security-credentials/";
export const tokenPath = "/latest/api/token";

/** web has a role, admin one that IAM refuses it, none has none, lax has one and may use IMDSv1; nobody is at 127.0.0.99. */
export const web = { address: "127.0.0.1", name: "web", alias: "web" };
export const db = { address: "127.0.0.2", name: "db", alias: "db" };
export const admin = { address: "127.0.0.3", name: "admin", alias: "admin" };
export const none = { address: "127.0.0.4", name: "none" };
export const lax = { address: "127.0.0.5", name: "lax", alias: "lax" };
export const stranger = "127.0.0.99";

const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export type Given = {
  readonly config?: Readonly<Record<string, unknown>>;
  readonly aws?: AwsOptions;
  /** Containers of an engine, beside the declared ones. */
  readonly containers?: readonly Container[];
  readonly provenance?: ImdsDependencies["provenance"];
  readonly refresh?: (directory: Directory) => Promise<void>;
  /** Whether all engines are followed; default: yes. */
  readonly complete?: boolean;
  /** Descriptors for clients; default: plenty. */
  readonly descriptors?: number;
  readonly strangers?: { readonly total: number; readonly perAddress: number };
  readonly turnedAway?: { readonly total: number; readonly perShare: number };
  /** The engines' first lists; default: in. */
  readonly listed?: Promise<void>;
};

/** The proxy as `serve` wires it, in this process, on loopback, before the stand-ins of IMDS and STS. Ends with the test. */
export async function givenProxy(t: Test, given: Given = {}) {
  const aws = await startAws({ sts: { deny: [roleArn("Admin")] }, ...given.aws });
  const config = configSchema.parse({
    aliasToARN: { web: roleArn("Web"), db: roleArn("Database"), admin: roleArn("Admin") },
    aliases: { lax: { roleArn: roleArn("Lax"), httpTokens: "optional" } },
    ...given.config,
  });
  let skewMs = 0;
  const now = () => Date.now() + skewMs;
  const user = aws.addUser("proxy");
  const metadata = new MetadataClient({ endpoint: aws.imds.url, now });
  const sts = openSts({
    metadata,
    region: account.region,
    endpoint: aws.sts.url,
    hostKeys: user,
    assumeFirst: undefined,
    useFips: false,
    useDualstack: false,
    proxyEnvironment: {},
    log: silent,
    now,
    wallNow: Date.now,
  });
  const credentials = new CredentialCache({
    assumeRole: sts.assumeRole,
    now,
    wallNow: Date.now,
    random: Math.random,
    schedule: (delayMs, run) => {
      const timer = setTimeout(run, delayMs);
      return () => clearTimeout(timer);
    },
    log: silent,
  });
  const upstream = new Upstream({ metadata, cacheSeconds: 60, requestsPerSecond: 10_000, now });
  const directory = new Directory({
    statics: [web, db, admin, none, lax].map(({ address, ...declared }) =>
      staticContainer(address, declared),
    ),
  });
  for (const container of given.containers ?? []) directory.upsert("engine", container);
  const policy = rolePolicy(config);
  const callers = new Callers(policy, undefined);
  const settings = {
    identityProof: config.identityProof,
    passthrough: passthroughPolicy(config.passthrough),
    requestsPerSecond: config.limits.requestsPerSecond,
  };
  const refusals: Refusal[] = [];
  const grants: string[] = [];
  const failures: unknown[] = [];
  const the: ImdsDependencies = {
    settings: () => settings,
    directory,
    listed: given.listed ?? Promise.resolve(),
    complete: () => given.complete ?? true,
    refresh: () => given.refresh?.(directory) ?? Promise.resolve(),
    provenance: given.provenance ?? new Provenance(),
    callers,
    credentials,
    tokens: sessionTokens({ key: Buffer.alloc(32, 7), now }),
    upstream,
    granted: (caller, accessKeyId) => void grants.push(`${caller.container.name} ${accessKeyId}`),
    refused: (refusal) => void refusals.push(refusal),
    now,
  };
  const door = openDoor(the, {
    containers: {
      perAddress: config.limits.connections,
      total: given.descriptors ?? 10_000,
      penaltyMs: 300,
    },
    strangers: given.strangers ?? { total: 1_024, perAddress: 64 },
    turnedAway: given.turnedAway ?? { total: 1_024, perShare: 256 },
  });
  const serving = (handle: ReturnType<typeof imdsHandler>, sayTo: (refused: TurnedAway) => Answer) =>
    imdsServer(
      (request, response) =>
        void handle(request, response).catch((error: unknown) => {
          failures.push(error);
          response.destroy();
        }),
      door,
      sayTo,
    );
  const imds = serving(imdsHandler(the), ({ status }) => errorAnswers[status]);
  const ecs = serving(containerCredentialsHandler(the), (refused) => turnedAwayDocument(refused, now()));
  const [port = 0, ecsPort = 0] = await Promise.all(
    [imds, ecs].map(async ({ server }) => {
      // Every address of this machine: a container is known by the address that it comes from.
      server.listen(0);
      await once(server, "listening");
      return (server.address() as AddressInfo).port; // an object for a TCP server
    }),
  );
  t.teardown(async () => {
    await Promise.all([imds.drain(0), ecs.drain(0)]);
    credentials.close();
    sts.close();
    upstream.close();
    metadata.close();
    await aws.stop();
    // Assertions come too late in a teardown; what is thrown here fails the test.
    if (failures.length > 0) throw new AggregateError(failures, "requests failed by a bug");
  });
  const proxy = {
    port,
    ecsPort,
    aws,
    imds,
    ecs,
    directory,
    callers,
    policy,
    credentials,
    refusals,
    grants,
    failures,
    /** Lets time pass for the proxy, not for AWS. */
    pass: (ms: number) => {
      skewMs += ms;
    },
    async token(of: { address: string }, ttl = 21_600): Promise<string> {
      const answer = await ask({ port, from: of.address }, "PUT", tokenPath, [
        `X-aws-ec2-metadata-token-ttl-seconds: ${ttl}`,
      ]);
      return answer.body;
    },
    /** A GET with a token of its own. */
    async get(of: { address: string }, target: string, ...lines: string[]): Promise<RawAnswer> {
      const token = await proxy.token(of);
      return ask({ port, from: of.address }, "GET", target, [`X-aws-ec2-metadata-token: ${token}`, ...lines]);
    },
    lastRefusal: () => refusals.at(-1),
  };
  return proxy;
}

/** A container of an engine at an address of loopback. */
export function engineContainer(id: string, address: string, more: Partial<Container> = {}): Container {
  return {
    ...staticContainer(address, { name: `c-${id.slice(0, 4)}` }),
    id: id.padEnd(64, "0"),
    image: "app:1",
    imageId: "sha256:1",
    attachments: [{ network: "bridge", ipv4: address, ipv6: undefined }],
    pid: 4242,
    pidStartedAt: 1,
    source: "engine",
    ...more,
  };
}
