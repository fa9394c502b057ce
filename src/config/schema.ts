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
  regionPattern,
  roleArn,
  sessionPolicy,
  url,
} from "./values.ts";

/**
 * Every key of config.json, defined once. scripts/schema.ts generates the packaged JSON Schema from this
 * file, and a test compares the README's table with it. Editors show the `describe` texts to the operator.
 */

const dockerHost = z
  .string()
  .regex(
    /^(?:unix:\/\/)?\/\S+$|^(?:tcp|https?):\/\/[^/\s]+$/,
    "expected unix:///PATH, the path of a socket, tcp://HOST:PORT or https://HOST:PORT",
  );

const policyArns = z
  .array(
    z
      .string()
      .regex(/^arn:aws[a-z-]*:iam::(\d{12}|aws):policy\/\S+$/, "expected the ARN of a managed policy"),
  )
  .max(10)
  .describe("ARNs of managed policies that restrict the session, at most 10.");

const externalId = z
  .string()
  .min(2)
  .max(1224)
  .regex(/^[\w+=,.@:/-]*$/, "expected letters, digits and _+=,.@:/-");

/**
 * The rules of STS for session tags; the prefix `aws:` is reserved. relations.ts checks their number and
 * case.
 */
const tagKey = z
  .string()
  .max(128)
  .regex(
    /^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+\-@]+$/iu,
    "expected a tag key of letters, digits, spaces and _.:/=+-@ that does not start with aws:",
  );
const tags = z.record(tagKey, z.string().max(256));

const allow = z
  .strictObject({
    images: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe(
        "Globs for the image name that the container was created with, or for the image digest (sha256:...).",
      ),
    labels: z
      .record(z.string().min(1), z.string())
      .refine((labels) => Object.keys(labels).length > 0, "expected at least one label")
      .optional()
      .describe("Label -> glob for its value. Every label must match."),
    composeProjects: z.array(z.string().min(1)).min(1).optional().describe("Globs for the Compose project."),
    composeServices: z.array(z.string().min(1)).min(1).optional().describe("Globs for the Compose service."),
    networks: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Globs for network names. One of the container's networks must match."),
    users: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Globs for the container's user as configured (`USER`, `--user`)."),
  })
  .refine(
    (rules) => Object.keys(rules).length > 0,
    "an empty `allow` would match no container; add a rule, or remove `allow`",
  )
  .describe(
    "Which containers may use this alias. Every kind of rule that is set must match. Default: every container.",
  );

const alias = z
  .strictObject({
    roleArn: roleArn.describe("ARN of the role."),
    durationSeconds: z.int().min(900).max(43_200).default(3600).describe("Lifetime of a session in seconds."),
    externalId: externalId.optional().describe("External ID for AssumeRole."),
    policy: sessionPolicy
      .optional()
      .describe(
        "Session policy, as a JSON string or as an object, at most 2048 characters. It can only restrict the role.",
      ),
    policyArns: policyArns.optional(),
    containerPolicy: z
      .boolean()
      .default(false)
      .describe("Whether a container may replace this alias's policy with its own."),
    sessionName: z
      .string()
      .min(1)
      .optional()
      .describe("Template for the role session name. Overrides the global `sessionName`."),
    tags: tags.optional().describe("Session tags. Values may contain placeholders. Requires sts:TagSession."),
    sourceIdentity: z
      .string()
      .min(1)
      .optional()
      .describe("Template for the source identity. Requires sts:SetSourceIdentity."),
    allow: allow.optional(),
    httpTokens: z
      .enum(["required", "optional"])
      .optional()
      .describe("Overrides the global `httpTokens` for containers with this alias."),
  })
  .describe("A named role with its settings.");

const staticContainer = z.strictObject({
  name: name.describe("Name in logs and session names."),
  alias: z.string().min(1).optional().describe("Alias of the role. Default: `defaultAlias`."),
});

/** The value types of the sections whose keys operators choose. */
export const recordValues = { aliasToARN: roleArn, aliases: alias, staticContainers: staticContainer };

const risks = [
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
    $schema: z.string().optional().describe("URL or path of this JSON Schema, for editors."),
    listen: hostPort
      .default(":18000")
      .describe(
        "Address and port of the proxy: `:PORT`, `ADDRESS:PORT` or `[IPV6]:PORT`. With socket activation it must match the socket unit.",
      ),
    defaultAlias: orEmpty(aliasName)
      .optional()
      .describe("Alias for containers that request no role. Without it they get none."),
    aliasToARN: z.record(aliasName, roleArn).default({}).describe("Aliases in short form: name -> role ARN."),
    aliases: z
      .record(aliasName, alias)
      .default({})
      .describe("Aliases with all their settings. Combined with `aliasToARN`."),
    defaultPolicy: orEmpty(sessionPolicy)
      .optional()
      .describe("Session policy for containers that set none and whose alias has none."),
    dockerHost: orEmpty(dockerHost)
      .optional()
      .describe(
        "Container engine: `unix:///PATH`, the path of a socket, or `tcp://HOST:PORT`. Default: unix:///var/run/docker.sock.",
      ),
    dockerHosts: z
      .array(dockerHost)
      .min(1)
      .optional()
      .describe("Several container engines, instead of `dockerHost`."),
    dockerTls: z
      .strictObject({ ca: z.string().min(1), cert: z.string().min(1), key: z.string().min(1) })
      .optional()
      .describe("Paths of the CA certificate, client certificate and key for engines at tcp:// addresses."),
    verbose: z
      .boolean()
      .default(false)
      .describe(
        "Log each request with its answer, each assumed role and each refusal, at debug level. Never a credential, a token or a body.",
      ),
    allowRoleArns: z
      .array(arnGlob)
      .default([])
      .describe("Globs for role ARNs that containers may request without an alias."),
    requireLabel: z
      .boolean()
      .default(false)
      .describe("Refuse containers that request no role, even if there is a default alias."),
    refuse: z.array(z.enum(risks)).default([]).describe("Containers with one of these risks get no role."),
    httpTokens: z
      .enum(["required", "optional"])
      .default("required")
      .describe("`required`: IMDSv2 only. `optional`: IMDSv1 and IMDSv2."),
    metadataEndpoint: url
      .default("http://169.254.169.254")
      .describe("URL of the real instance metadata service."),
    passthrough: z
      .strictObject({
        enabled: z.boolean().default(true).describe("false: forward nothing."),
        allow: z
          .array(metadataCategory)
          .default([...passthroughAllow])
          .describe("Categories below meta-data/ to forward. Also `dynamic/…` and `user-data`."),
        deny: z
          .array(metadataCategory)
          .default([])
          .describe("Categories to refuse even if `allow` contains them."),
        cacheSeconds: z
          .int()
          .min(0)
          .max(3600)
          .default(60)
          .describe(
            "How long to cache responses that do not change on a running instance, in seconds. 0: no caching.",
          ),
        requestsPerSecond: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(100)
          .describe(
            "Maximum requests per second to the real service, for all containers together. An instance may send 1,024 packets per second to it and the DNS resolver.",
          ),
      })
      .prefault({})
      .describe("Which requests are forwarded to the real service."),
    sts: z
      .strictObject({
        region: z
          .string()
          .regex(regionPattern, "expected a region such as eu-west-1")
          .optional()
          .describe("Region of the STS endpoint. Default: AWS_REGION, else the instance's region."),
        endpoint: url
          .optional()
          .describe(
            "URL of the STS endpoint. Default: AWS_ENDPOINT_URL_STS, else the endpoint of the region.",
          ),
        assumeFirst: roleArn
          .optional()
          .describe("Role to assume first. The containers' roles are then assumed from it (role chaining)."),
        useFips: z.boolean().default(false).describe("Use the FIPS endpoint."),
        useDualstack: z.boolean().default(false).describe("Use the dual-stack endpoint."),
        callsInFlight: z.int().min(1).max(500).default(64).describe("Maximum concurrent AssumeRole calls."),
        callsPerSecond: z
          .number()
          .min(0.1)
          .max(500)
          .default(120)
          .describe("Maximum AssumeRole calls per second."),
        startSpreadSeconds: z
          .int()
          .min(0)
          .max(3600)
          .default(0)
          .describe(
            "After a start, spread prefetching of credentials at random over this many seconds. Requests from containers do not wait.",
          ),
      })
      .prefault({})
      .describe("How roles are assumed."),
    sessionName: z
      .string()
      .min(1)
      .default("{name}-{id}")
      .describe(
        "Template for the role session name: {name} {id} {image} {composeProject} {composeService} {alias} {instanceId}. Truncated to 64 characters.",
      ),
    identityProof: z
      .enum(["socket", "address", "token", "off"])
      .default("socket")
      .describe(
        "How to verify that a caller is the container that has its address. `socket`: the connection is in the container's own socket table. `address`: the guard's port lock keeps everybody else from using the address. SECURITY.md compares them.",
      ),
    prefetch: z.boolean().default(true).describe("Fetch credentials when a container starts."),
    staticContainers: z
      .record(callerAddress, staticContainer)
      .default({})
      .describe(
        "Addresses that no engine manages, such as VMs and LXC, each listed once. Callers are identified by address alone.",
      ),
    limits: z
      .strictObject({
        requestsPerSecond: z
          .int()
          .min(1)
          .default(100_000)
          .describe("Maximum requests per second from one container."),
        connections: z
          .int()
          .min(1)
          .default(512)
          .describe("Maximum concurrent connections from one container."),
      })
      .prefault({})
      .describe("Limits for each container."),
    containerCredentials: z
      .strictObject({
        listen: hostPort.describe(
          "Address and port of `GET /v1/credentials`, for AWS_CONTAINER_CREDENTIALS_FULL_URI.",
        ),
      })
      .optional()
      .describe("The container credentials endpoint, as on ECS and EKS. Off by default."),
    metricsListen: hostPort
      .optional()
      .describe("Address and port for Prometheus metrics, e.g. 127.0.0.1:18009. Off by default."),
  })
  .describe("Configuration of ec2metaproxy.");

/** The validated configuration, with defaults filled in. */
export type Config = z.infer<typeof configSchema>;
export type AliasConfig = Config["aliases"][string];
export type AllowConfig = NonNullable<AliasConfig["allow"]>;

/** The schema as JSON Schema, for editors. It describes the input, before defaults are filled in. */
export function configJsonSchema(): z.core.JSONSchema.JSONSchema {
  return z.toJSONSchema(configSchema, { io: "input", target: "draft-2020-12", unrepresentable: "any" });
}
