import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { promisify } from "node:util";
import { fromHttp, fromInstanceMetadata } from "@aws-sdk/credential-providers";
import t, { type Test } from "tap";
import { AssumeRoleError } from "../../../src/credentials/assume-role.ts";
import type { CacheAnswer } from "../../../src/credentials/cache.ts";
import { accessDenied, givenCache, roleRequest, watch } from "./fixture.ts";

/** What the cache answers in simulated time, with this fault of STS. */
async function answerOf(fault?: AssumeRoleError): Promise<CacheAnswer> {
  const { time, ask, cache } = givenCache({ sts: { fault: () => fault } });
  // The real SDK below looks at the real clock.
  await time.runUntil(Date.now());
  const asked = watch(ask("c", roleRequest("db")));
  await time.runFor(1_000);
  cache.close();
  if (asked.value === undefined) throw new Error("the cache has not answered");
  return asked.value;
}

/** The two endpoints, as thin as they can be: statuses as in docs/credentials.md, bodies from the cache. */
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

/** botocore's own providers, as `python3` finds them: what they return, or the name of what they raise. */
async function botocore(url: string): Promise<unknown> {
  const script = `
import json, sys
from botocore.credentials import ContainerProvider, InstanceMetadataProvider
from botocore.utils import InstanceMetadataFetcher
def ask(provider):
    try:
        found = provider.load()
        return found and found.get_frozen_credentials().access_key
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
url = sys.argv[1]
imds = InstanceMetadataFetcher(timeout=2, num_attempts=1, base_url=url)
print(json.dumps({
    "imds": ask(InstanceMetadataProvider(iam_role_fetcher=imds)),
    "container": ask(ContainerProvider(environ={"AWS_CONTAINER_CREDENTIALS_FULL_URI": url + "/v1/credentials"})),
}))`;
  const { stdout } = await promisify(execFile)("python3", ["-c", script, url]);
  return JSON.parse(stdout);
}

t.test("the JS SDK takes the credentials from both forms", async (t) => {
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
    `the JS SDK fails at once for ${name}, and carries code and reason where it reads them`,
    async (t) => {
      const url = await serve(t, await answerOf(fault));
      await t.rejects(fromImds(t, url), { name: "CredentialsProviderError" });
      const provider = fromHttp({ awsContainerCredentialsFullUri: `${url}/v1/credentials`, maxRetries: 0 });
      t.match(await provider().catch((error: unknown) => error), { Code: code, Message: says });
    },
  );
}

t.test("the JS SDK sees 503 where there are no credentials yet", async (t) => {
  const down = new AssumeRoleError("temporary", "InternalFailure", "down", 500);
  const url = await serve(t, await answerOf(down));
  t.match(await fromImds(t, url).catch((error: unknown) => error), { statusCode: 503 });
});

t.test(
  "botocore takes the credentials from both forms; a refusal leaves it with none, or with an error that says why",
  async (t) => {
    const url = await serve(t, await answerOf());
    const taken = await botocore(url).catch(() => undefined);
    if (taken === undefined) {
      t.comment("not tried: python3 has no botocore here");
      return;
    }
    t.match(taken, { imds: /^ASIA/, container: /^ASIA/ });
    const refused = await botocore(await serve(t, await answerOf(accessDenied)));
    t.match(refused, { imds: null, container: /CredentialRetrievalError.*403/s });
  },
);
