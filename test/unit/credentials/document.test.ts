import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { promisify } from "node:util";
import { fromHttp, fromInstanceMetadata } from "@aws-sdk/credential-providers";
import t, { type Test } from "tap";
import { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import type { CacheAnswer } from "../../../src/credentials/cache.ts";
import { type Credentials, documentsOf, failureDocuments } from "../../../src/credentials/document.ts";
import { accessDenied, roleRequest, simulatedCache, watch } from "./fixture.ts";

const credentials: Credentials = {
  accessKeyId: "ASIAEXAMPLE",
  secretAccessKey: "wJalr/XUtn+FEMI",
  sessionToken: "IQoJb3JpZ2luX2Vj==",
  fetchedAt: Date.UTC(2026, 0, 2, 3, 4, 5, 999),
  expiresAt: Date.UTC(2026, 0, 2, 4, 4, 5, 999),
  lifetimeMs: 3_600_000,
  accountId: "123456789012",
  assumedRoleArn: "arn:aws:sts::123456789012:assumed-role/db/web",
  assumedRoleId: "AROAEXAMPLEID:web",
};
const roleArn = "arn:aws-cn:iam::123456789012:role/containers/a/db";

t.test(
  "the credential document is EC2's, byte for byte: order, spaces, whole seconds rounded down, no final newline",
  async (t) => {
    t.equal(
      String(documentsOf(credentials, roleArn).imds),
      `{
  "Code" : "Success",
  "LastUpdated" : "2026-01-02T03:04:05Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAEXAMPLE",
  "SecretAccessKey" : "wJalr/XUtn+FEMI",
  "Token" : "IQoJb3JpZ2luX2Vj==",
  "Expiration" : "2026-01-02T04:04:05Z"
}`,
    );
  },
);

t.test(
  "the extended document adds the account, and iam/info has an instance profile with the role's name",
  async (t) => {
    const documents = documentsOf(credentials, roleArn);
    t.match(JSON.parse(String(documents.extended)), { Code: "Success", AccountId: "123456789012" });
    t.match(String(documents.extended), /Expiration" : "[^"]+",\n {2}"AccountId" : "123456789012"\n}$/);
    t.same(JSON.parse(String(documents.info)), {
      Code: "Success",
      LastUpdated: "2026-01-02T03:04:05Z",
      InstanceProfileArn: "arn:aws-cn:iam::123456789012:instance-profile/containers/a/db",
      InstanceProfileId: "AROAEXAMPLEID",
    });
  },
);

t.test("the container credentials document has what botocore, Go, Rust and JS need", async (t) => {
  t.same(JSON.parse(String(documentsOf(credentials, roleArn).container)), {
    RoleArn: roleArn,
    AccessKeyId: "ASIAEXAMPLE",
    SecretAccessKey: "wJalr/XUtn+FEMI",
    Token: "IQoJb3JpZ2luX2Vj==",
    Expiration: "2026-01-02T04:04:05Z",
    AccountId: "123456789012",
  });
});

t.test("each document is built once", async (t) => {
  const documents = documentsOf(credentials, roleArn);
  for (const name of ["imds", "extended", "info", "container"] as const)
    t.equal(documents[name], documents[name]);
});

t.test("a failure is readable in both formats, whatever its message contains", async (t) => {
  const message = 'quotes " and \n lines';
  const documents = failureDocuments(
    { code: "MalformedPolicyDocument", message },
    credentials.fetchedAt,
    403,
  );
  t.same(JSON.parse(String(documents.imds)), {
    Code: "MalformedPolicyDocument",
    Message: message,
    LastUpdated: "2026-01-02T03:04:05Z",
  });
  t.equal(documents.imds[0], 0x7b, "the first byte is {, by which boto 2 recognizes JSON");
  t.match(JSON.parse(String(documents.container)), {
    code: "MalformedPolicyDocument",
    message,
    Message: message,
  });
});

/** The cache's answer in simulated time, with this fault of STS. */
async function answerOf(fault?: AssumeRoleError): Promise<CacheAnswer> {
  const { time, get, cache } = simulatedCache({ sts: { fault: () => fault } });
  // The SDK below reads the real clock.
  await time.runUntil(Date.now());
  const answer = watch(get("c", roleRequest("db")));
  await time.runFor(1_000);
  cache.close();
  if (answer.value === undefined) throw new Error("the cache has not answered");
  return answer.value;
}

/** A minimal server of the two endpoints: statuses as in docs/credentials.md, bodies from the cache. */
async function serve(t: Test, answer: CacheAnswer): Promise<string> {
  const unavailable = answer.kind === "unavailable";
  const server = createServer((req, res) => {
    const { url = "" } = req;
    const container = url === "/v1/credentials";
    if (req.method === "PUT") {
      res.writeHead(200, { "x-aws-ec2-metadata-token-ttl-seconds": "21600" }).end("token");
    } else if (url.endsWith("/security-credentials/")) res.writeHead(200).end("db");
    else if (container) {
      const status = answer.kind === "credentials" ? 200 : unavailable ? 503 : 403;
      res.writeHead(status, { "Content-Type": "application/json" }).end(answer.documents.container);
    } else
      res.writeHead(unavailable ? 503 : 200, { "Content-Type": "text/plain" }).end(answer.documents.imds);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const bound = server.address();
  return `http://127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
}

function fromImds(t: Test, url: string) {
  const before = process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT;
  t.teardown(() => {
    if (before === undefined) delete process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT;
    else process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = before;
  });
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = url;
  return fromInstanceMetadata({ timeout: 2_000, maxRetries: 0 })();
}

/** What botocore's providers return, or the name of what they raise. */
async function botocore(url: string): Promise<unknown> {
  const script = `
import json, sys
from botocore.credentials import ContainerProvider, InstanceMetadataProvider
from botocore.utils import InstanceMetadataFetcher
def get(provider):
    try:
        found = provider.load()
        return found and found.get_frozen_credentials().access_key
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
url = sys.argv[1]
imds = InstanceMetadataFetcher(timeout=2, num_attempts=1, base_url=url)
print(json.dumps({
    "imds": get(InstanceMetadataProvider(iam_role_fetcher=imds)),
    "container": get(ContainerProvider(environ={"AWS_CONTAINER_CREDENTIALS_FULL_URI": url + "/v1/credentials"})),
}))`;
  const { stdout } = await promisify(execFile)("python3", ["-c", script, url]);
  return JSON.parse(stdout);
}

t.test("the JS SDK accepts the credentials in both formats", async (t) => {
  const url = await serve(t, await answerOf());
  const wanted = {
    accessKeyId: /^ASIA/,
    secretAccessKey: "simulated",
    sessionToken: "simulated",
    expiration: Date,
  };
  t.match(await fromImds(t, url), wanted);
  t.match(await fromHttp({ awsContainerCredentialsFullUri: `${url}/v1/credentials` })(), wanted);
});

const malformed = new AssumeRoleError("refused", "MalformedPolicyDocument", "Syntax errors in policy.", 400);
for (const { name, fault, code, says } of [
  {
    name: "a refused role",
    fault: accessDenied,
    code: "AssumeRoleUnauthorizedAccess",
    says: /role\/containers\/db/,
  },
  {
    name: "a malformed policy",
    fault: malformed,
    code: "MalformedPolicyDocument",
    says: /Syntax errors in policy/,
  },
]) {
  t.test(
    `the JS SDK fails at once for ${name}, with code and reason in the format where it reads them`,
    async (t) => {
      const url = await serve(t, await answerOf(fault));
      await t.rejects(fromImds(t, url), { name: "CredentialsProviderError" });
      const provider = fromHttp({ awsContainerCredentialsFullUri: `${url}/v1/credentials`, maxRetries: 0 });
      t.match(await provider().catch((error: unknown) => error), { Code: code, Message: says });
    },
  );
}

t.test("the JS SDK gets 503 if there are no credentials yet", async (t) => {
  const down = new AssumeRoleError("temporary", "InternalFailure", "down", 500);
  const url = await serve(t, await answerOf(down));
  t.match(await fromImds(t, url).catch((error: unknown) => error), { statusCode: 503 });
});

t.test(
  "botocore accepts the credentials in both formats; a refusal gives none, or an error with the reason",
  async (t) => {
    const url = await serve(t, await answerOf());
    const taken = await botocore(url).catch(() => undefined);
    if (taken === undefined) {
      t.comment("not run: python3 has no botocore");
      return;
    }
    t.match(taken, { imds: /^ASIA/, container: /^ASIA/ });
    const refused = await botocore(await serve(t, await answerOf(accessDenied)));
    t.match(refused, { imds: null, container: /CredentialRetrievalError.*403/s });
  },
);
