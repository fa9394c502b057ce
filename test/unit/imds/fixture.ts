import { once } from "node:events";
import type { AddressInfo } from "node:net";
// The first call loads the SDK, which on a busy machine takes longer than a client waits for STS.
import "../../../src/credentials/sts-client.ts";
import type { Test } from "tap";
import { openProxy, type ProxySurroundings } from "../../../src/commands/proxy.ts";
import { readEnvironment } from "../../../src/config/load.ts";
import { configSchema } from "../../../src/config/schema.ts";
import { type Container, staticContainer } from "../../../src/containers/container.ts";
import type { Directory } from "../../../src/containers/directory.ts";
import { Provenance } from "../../../src/containers/provenance.ts";
import type { AccessLog } from "../../../src/imds/access.ts";
import type { ImdsDependencies } from "../../../src/imds/handler.ts";
import type { RefusedRequest } from "../../../src/imds/refusals.ts";
import { rolePolicy } from "../../../src/roles/grant.ts";
import { account } from "../../support/aws/account.ts";
import { type AwsOptions, startAws } from "../../support/aws/aws.ts";
import { ask, type RawAnswer } from "../../support/raw-http.ts";

export const roleArn = (name: string) => `arn:aws:iam::${account.id}:role/containers/${name}`;
export const listPath = "/latest/meta-data/iam/security-credentials/";
export const tokenPath = "/latest/api/token";

/**
 * web and db have a role, IAM refuses admin's, none has no role, lax may use IMDSv1. No container is at
 * 127.0.0.99.
 */
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

export type FixtureOptions = {
  readonly access?: AccessLog;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly aws?: AwsOptions;
  /** Containers of an engine, beside the declared ones. */
  readonly containers?: readonly Container[];
  readonly provenance?: ImdsDependencies["provenance"];
  /** What to follow, instead of the engine of these containers. */
  readonly follow?: ProxySurroundings["follow"];
  readonly refresh?: (directory: Directory) => Promise<void>;
  /** Whether all engines are followed; default: yes. */
  readonly complete?: boolean;
  /** Descriptors for clients; default: plenty. */
  readonly descriptors?: number;
  readonly strangers?: { readonly total: number; readonly perAddress: number };
  readonly rejections?: { readonly total: number; readonly perShare: number };
  /** The engines' first lists; default: in. */
  readonly listed?: Promise<void>;
};

/**
 * The proxy as `serve` runs it, in this process, on loopback, with stand-ins for IMDS and STS. Ends with the
 * test.
 */
export async function proxyFixture(t: Test, options: FixtureOptions = {}) {
  const aws = await startAws({ sts: { deny: [roleArn("Admin")] }, ...options.aws });
  const { passthrough, ...more } = options.config ?? {};
  const written = {
    aliasToARN: { web: roleArn("Web"), db: roleArn("Database"), admin: roleArn("Admin") },
    aliases: { lax: { roleArn: roleArn("Lax"), httpTokens: "optional" } },
    staticContainers: Object.fromEntries(
      [web, db, admin, none, lax].map(({ address, ...declared }) => [address, declared]),
    ),
    metadataEndpoint: aws.imds.url,
    sts: { region: account.region, endpoint: aws.sts.url },
    passthrough: { requestsPerSecond: 10_000, ...(passthrough as object | undefined) }, // validated here
    containerCredentials: { listen: "127.0.0.1:1" }, // not used: the test listens on a free port
    ...more,
  };
  const config = configSchema.parse(written);
  const user = aws.addUser("proxy");
  let skewMs = 0;
  const refusals: RefusedRequest[] = [];
  const grants: string[] = [];
  const proofs: string[] = [];
  const failures: unknown[] = [];
  const open = new AsyncDisposableStack();
  const opened = openProxy(
    config,
    {
      environment: readEnvironment({
        AWS_ACCESS_KEY_ID: user.accessKeyId,
        AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
      }),
      clocks: { now: () => Date.now() + skewMs, wallNow: Date.now },
      random: Math.random,
      stopwatch: () => performance.now(),
      log: {
        ...silent,
        error: ({ err }, message) => {
          if (message.includes("this is a bug")) failures.push(err);
        },
      },
      follow: (directory, onChange) => {
        if (options.follow !== undefined) return options.follow(directory, onChange);
        for (const container of options.containers ?? []) directory.upsert("engine", container);
        return {
          listed: options.listed ?? Promise.resolve(),
          states: () => [],
          complete: () => options.complete ?? true,
          refresh: () => options.refresh?.(directory) ?? Promise.resolve(),
          stop: () => Promise.resolve(),
        };
      },
      provenance: options.provenance ?? new Provenance(),
      tokenKey: Buffer.alloc(32, 7),
      admissionLimits: {
        containers: {
          perContainer: config.limits.connections,
          total: options.descriptors ?? 10_000,
          penaltyMs: 300,
        },
        strangers: options.strangers ?? { total: 1_024, perAddress: 64 },
        rejections: options.rejections ?? { total: 1_024, perShare: 256 },
      },
      access: options.access,
      audit: {
        granted: (caller, accessKeyId, _expiresAt, proof) => {
          grants.push(`${caller.container.name} ${accessKeyId}`);
          proofs.push(`${caller.container.name} ${proof}`);
        },
        refused: (refusal) => void refusals.push(refusal),
      },
      drainMs: 0,
    },
    open,
  );
  t.teardown(async () => {
    await open.disposeAsync();
    await aws.stop();
    // Assertions come too late in a teardown; what is thrown here fails the test.
    if (failures.length > 0) throw new AggregateError(failures, "requests failed by a bug");
  });
  const { imds, containerCredentials: ecs, directory, callers, credentials } = opened;
  if (ecs === undefined) throw new Error("the configuration has containerCredentials");
  const [port = 0, ecsPort = 0] = await Promise.all(
    [imds, ecs].map(async ({ server }) => {
      // On every address of this machine: a container is known by the address that it connects from.
      server.listen(0);
      await once(server, "listening");
      return (server.address() as AddressInfo).port; // an object for a TCP server
    }),
  );
  const proxy = {
    port,
    ecsPort,
    aws,
    imds,
    ecs,
    directory,
    callers,
    policy: rolePolicy(config),
    credentials,
    refusals,
    grants,
    /** What each grant rested on. */
    proofs,
    failures,
    /** Puts the configuration with these keys in force, as a reload does. */
    reload: (changed: Readonly<Record<string, unknown>>) =>
      opened.replaceConfig(configSchema.parse({ ...written, ...changed })),
    facts: opened.facts,
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
    attachments: [{ network: "bridge", ipv4: address, ipv6: undefined, mac: undefined }],
    pid: 4242,
    pidStartedAt: 1,
    source: "engine",
    ...more,
  };
}
