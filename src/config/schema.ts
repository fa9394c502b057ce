// As a namespace: the named export drags every locale into the executable.
import * as z from "zod";
import {
  aliasName,
  arnGlob,
  callerAddress,
  hostPort,
  metadataCategory,
  name,
  orEmpty,
  roleArn,
  sessionPolicy,
  url,
} from "./values.ts";

/**
 * Every key of config.json, once. The JSON Schema that the package ships is made from this file (`scripts/schema.ts`),
 * and a test holds the README's table against it. `describe` texts are what an editor shows the operator.
 */

const dockerHost = z
  .string()
  .regex(
    /^(?:unix:\/\/)?\/\S+$|^(?:tcp|https?):\/\/[^/\s]+$/,
    "expected unix:///PATH, a socket's path, tcp://HOST:PORT or https://HOST:PORT",
  );

const policyArns = z
  .array(
    z
      .string()
      .regex(/^arn:aws[a-z-]*:iam::(\d{12}|aws):policy\/\S+$/, "expected the ARN of a managed policy"),
  )
  .max(10)
  .describe("Managed policies that narrow the session, at most 10.");

const externalId = z
  .string()
  .min(2)
  .max(1224)
  .regex(/^[\w+=,.@:/-]*$/, "expected letters, digits and _+=,.@:/-");

/** STS's rules for session tags; `aws:` is AWS's own. How many, and that they differ in more than case, is for relations.ts. */
const tagKey = z
  .string()
  .max(128)
  .regex(
    /^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+\-@]+$/iu,
    "expected a tag key of letters, digits, spaces and _.:/=+-@, not beginning with aws:",
  );
const tags = z.record(tagKey, z.string().max(256));

const allow = z
  .strictObject({
    images: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Globs on the image's name as the container was created with it."),
    labels: z
      .record(z.string().min(1), z.string())
      .refine((labels) => Object.keys(labels).length > 0, "expected at least one label")
      .optional()
      .describe("Label -> glob on its value; every one must match."),
    composeProjects: z.array(z.string().min(1)).min(1).optional().describe("Globs on the compose project."),
    composeServices: z.array(z.string().min(1)).min(1).optional().describe("Globs on the compose service."),
    networks: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Globs on network names; one attachment must match."),
    users: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Globs on the container's user as configured (`USER`, `--user`)."),
  })
  .refine(
    (rules) => Object.keys(rules).length > 0,
    "an empty `allow` would admit nobody; name what may use the alias, or leave `allow` out",
  )
  .describe("Who may use this alias; every kind that is given must match. Without it, every container may.");

const alias = z
  .strictObject({
    roleArn: roleArn.describe("The role."),
    durationSeconds: z.int().min(900).max(43_200).default(3600).describe("Lifetime of a session in seconds."),
    externalId: externalId.optional().describe("External id for AssumeRole."),
    policy: sessionPolicy
      .optional()
      .describe(
        "Session policy: JSON as a text or as an object, at most 2048 characters. It can only narrow the role.",
      ),
    policyArns: policyArns.optional(),
    containerPolicy: z
      .boolean()
      .default(false)
      .describe("Whether a container may replace this alias's policy by its own."),
    sessionName: z
      .string()
      .min(1)
      .optional()
      .describe("Template of the session name; overrides the global one."),
    tags: tags.optional().describe("Session tags; values may hold templates. Needs sts:TagSession."),
    sourceIdentity: z
      .string()
      .min(1)
      .optional()
      .describe("Template of the source identity. Needs sts:SetSourceIdentity."),
    allow: allow.optional(),
    httpTokens: z
      .enum(["required", "optional"])
      .optional()
      .describe("Overrides the global `httpTokens` for this alias's containers."),
  })
  .describe("A role under a name, with what belongs to it.");

const staticContainer = z.strictObject({
  name: name.describe("Its name in logs and session names."),
  alias: z.string().min(1).optional().describe("Its alias; default: defaultAlias."),
});

/** What stands under the keys that operators choose. */
export const recordValues = { aliasToARN: roleArn, aliases: alias, staticContainers: staticContainer };

export const risks = [
  "privileged",
  "docker-socket",
  "host-network",
  "host-pid",
  "net-admin",
  "net-raw-added",
] as const;

// biome-ignore format: a list
const passthroughAllow = [
  "ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping", "events", "hibernation", "hostname", "instance-action", "instance-id",
  "instance-life-cycle", "instance-type", "kernel-id", "local-hostname", "local-ipv4", "mac", "metrics", "network", "placement", "product-codes",
  "profile", "public-hostname", "public-ipv4", "ramdisk-id", "reservation-id", "security-groups", "services", "spot", "autoscaling", "system", "ipv6", "dynamic/instance-identity/document",
] as const;

export const configSchema = z
  .strictObject({
    $schema: z.string().optional().describe("For editors."),
    listen: hostPort
      .default(":18000")
      .describe(
        "Where the proxy listens: `:PORT`, `ADDRESS:PORT` or `[IPV6]:PORT`. With socket activation it must agree with the socket.",
      ),
    defaultAlias: orEmpty(aliasName)
      .optional()
      .describe("The alias of containers that ask for nothing. Without it they get no role."),
    aliasToARN: z
      .record(aliasName, roleArn)
      .default({})
      .describe("Aliases, the short way: name -> role ARN."),
    aliases: z
      .record(aliasName, alias)
      .default({})
      .describe("Aliases with all their settings; joined with aliasToARN."),
    defaultPolicy: orEmpty(sessionPolicy)
      .optional()
      .describe("Session policy of containers that bring none, where the alias has none either."),
    dockerHost: orEmpty(dockerHost)
      .optional()
      .describe(
        "The engine: `unix:///run/docker.sock`, a socket's path, or `tcp://HOST:PORT`. Default: unix:///var/run/docker.sock.",
      ),
    dockerHosts: z
      .array(dockerHost)
      .min(1)
      .optional()
      .describe("Several engines at once, instead of dockerHost."),
    dockerTls: z
      .strictObject({ ca: z.string().min(1), cert: z.string().min(1), key: z.string().min(1) })
      .optional()
      .describe("Paths of the CA, certificate and key for engines reached by tcp://."),
    verbose: z.boolean().default(false).describe("Log every request."),
    allowRoleArns: z
      .array(arnGlob)
      .default([])
      .describe("Globs on full role ARNs that containers may name without an alias."),
    requireLabel: z
      .boolean()
      .default(false)
      .describe("Refuse containers that ask for nothing, even with a default alias."),
    refuse: z.array(z.enum(risks)).default([]).describe("Containers with one of these get no role."),
    httpTokens: z
      .enum(["required", "optional"])
      .default("required")
      .describe("`required`: IMDSv2 only. `optional`: IMDSv1 too."),
    metadataEndpoint: url.default("http://169.254.169.254").describe("The real instance metadata service."),
    passthrough: z
      .strictObject({
        enabled: z.boolean().default(true).describe("false: nothing is forwarded."),
        allow: z
          .array(metadataCategory)
          .default([...passthroughAllow])
          .describe("Categories below meta-data/ (or `dynamic/…`, `user-data`) that are forwarded."),
        deny: z
          .array(metadataCategory)
          .default([])
          .describe("Categories that are refused though `allow` has them."),
        cacheSeconds: z
          .int()
          .min(0)
          .max(3600)
          .default(60)
          .describe("How long answers that do not change on a running instance are kept; 0: not at all."),
        requestsPerSecond: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(100)
          .describe(
            "Requests a second to the real service, all containers together. An instance has 1,024 packets a second for it and the resolver.",
          ),
      })
      .prefault({})
      .describe("What is forwarded to the real service."),
    sts: z
      .strictObject({
        region: z
          .string()
          .regex(/^[a-z]{2,}(-[a-z]+)+-\d+$/, "expected a region such as eu-west-1")
          .optional()
          .describe("Default: AWS_REGION, else the instance's own."),
        endpoint: url.optional().describe("STS's address. Default: the region's, or AWS_ENDPOINT_URL_STS."),
        assumeFirst: roleArn
          .optional()
          .describe("A role that the host assumes before the containers' roles."),
        useFips: z.boolean().default(false).describe("Use the FIPS endpoint."),
        useDualstack: z.boolean().default(false).describe("Use the dual-stack endpoint."),
        callsInFlight: z.int().min(1).max(500).default(64).describe("AssumeRole calls at one time."),
        callsPerSecond: z
          .number()
          .min(0.1)
          .max(500)
          .default(120)
          .describe("AssumeRole calls a second, at most."),
        startSpreadSeconds: z
          .int()
          .min(0)
          .max(3600)
          .default(0)
          .describe(
            "For so long after the start, credentials that nobody waits for are fetched at random moments.",
          ),
      })
      .prefault({})
      .describe("How roles are assumed."),
    sessionName: z
      .string()
      .min(1)
      .default("{name}-{id}")
      .describe(
        "Template of the role session name: {name} {id} {image} {composeProject} {composeService} {alias} {instanceId}. Cut to 64 characters.",
      ),
    identityProof: z
      .enum(["socket", "token", "off"])
      .default("socket")
      .describe("How a caller is proven to be the container that its address names."),
    prefetch: z.boolean().default(true).describe("Fetch credentials when a container starts."),
    staticContainers: z
      .record(callerAddress, staticContainer)
      .default({})
      .describe(
        "Addresses that no engine knows: VMs, LXC; each once, in any spelling. Their callers are believed by address alone.",
      ),
    limits: z
      .strictObject({
        requestsPerSecond: z.int().min(1).default(100_000).describe("Requests a second from one container."),
        connections: z.int().min(1).default(512).describe("Connections of one container at one time."),
      })
      .prefault({})
      .describe("What one container may ask of the proxy."),
    containerCredentials: z
      .strictObject({
        listen: hostPort.describe(
          "Where `GET /v1/credentials` is answered, for AWS_CONTAINER_CREDENTIALS_FULL_URI.",
        ),
      })
      .optional()
      .describe("The container credentials endpoint (ECS and EKS form). Off by default."),
    metricsListen: hostPort
      .optional()
      .describe("Where Prometheus metrics are served, e.g. 127.0.0.1:18009. Off by default."),
  })
  .describe("Configuration of ec2metaproxy.");

/** What config.json means, with every default filled in. */
export type Config = z.infer<typeof configSchema>;
export type AliasConfig = Config["aliases"][string];
export type AllowConfig = NonNullable<AliasConfig["allow"]>;

/** The same as JSON Schema, for editors. What the operator writes, so before defaults are filled in. */
export function configJsonSchema(): z.core.JSONSchema.JSONSchema {
  return z.toJSONSchema(configSchema, { io: "input", target: "draft-2020-12", unrepresentable: "any" });
}
