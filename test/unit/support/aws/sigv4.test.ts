import { createHash, createHmac } from "node:crypto";
import t from "tap";
import { startAws } from "../../../support/aws/aws.ts";

const form = "Action=GetCallerIdentity&Version=2011-06-15";
const noon = Date.UTC(2026, 10, 22, 12, 0, 0);

type Signing = {
  readonly accessKeyId: string;
  readonly secret: string;
  readonly token: string;
  readonly amzDate: string;
  readonly scopeDate: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly body: string;
  readonly sentBody: string;
};

t.test("a request is accepted only with a valid signature of what was sent", async (t) => {
  await using aws = await startAws({ now: () => noon });
  const host = aws.imds.credentials.host;
  const valid: Signing = {
    accessKeyId: host.accessKeyId,
    secret: host.secretAccessKey,
    token: host.sessionToken,
    amzDate: "20261122T120000Z",
    scopeDate: "20261122",
    service: "sts",
    signedHeaders: ["content-type", "host", "x-amz-date", "x-amz-security-token"],
    body: form,
    sentBody: form,
  };
  const cases: readonly (readonly [string, Partial<Signing>, number, string])[] = [
    ["a valid request", {}, 200, "<Arn>arn:aws:sts::123456789012:assumed-role/ec2-host-role/"],
    ["14 minutes old", { amzDate: "20261122T114600Z" }, 200, "<Account>123456789012<"],
    [
      "16 minutes old",
      { amzDate: "20261122T114400Z" },
      403,
      "Signature expired: 20261122T114400Z is now earlier",
    ],
    ["16 minutes ahead", { amzDate: "20261122T121600Z" }, 403, "Signature not yet current"],
    ["signed with another secret", { secret: "x" }, 403, "<Code>SignatureDoesNotMatch<"],
    ["a body that was not signed", { sentBody: `${form}&X=1` }, 403, "<Code>SignatureDoesNotMatch<"],
    ["an unknown key", { accessKeyId: "ASIA0000000000000000" }, 403, "<Code>InvalidClientTokenId<"],
    ["another session token", { token: `${host.sessionToken}x` }, 403, "<Code>InvalidClientTokenId<"],
    ["another service", { service: "s3" }, 403, "correct service: &#39;sts&#39;"],
    ["another day in the scope", { scopeDate: "20261121" }, 403, "Date in Credential scope"],
    [
      "host not signed",
      { signedHeaders: ["x-amz-date", "x-amz-security-token"] },
      400,
      "<Code>IncompleteSignature<",
    ],
    [
      "date not signed",
      { signedHeaders: ["host", "x-amz-security-token"] },
      400,
      "<Code>IncompleteSignature<",
    ],
    ["token not signed", { signedHeaders: ["host", "x-amz-date"] }, 400, "<Code>IncompleteSignature<"],
    ["an invalid date", { amzDate: "20261322T120000Z" }, 400, "<Code>IncompleteSignature<"],
    [
      "another version",
      { body: form.replace("06", "07"), sentBody: form.replace("06", "07") },
      400,
      "<Code>InvalidAction<",
    ],
  ];
  for (const [name, change, status, text] of cases)
    await t.test(name, async (t) => {
      const answer = await send(aws.sts.url, { ...valid, ...change });
      t.equal(answer.status, status);
      t.ok(answer.body.includes(text), text);
      t.ok(answer.body.includes('xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'));
      t.match(answer.body, new RegExp(`<RequestId>${answer.requestId}</RequestId>`));
    });
  const used = await send(aws.sts.url, { ...valid, ...withKeys(aws.imds.credentials.rotate(0)) });
  t.equal(used.status, 403);
  t.ok(used.body.includes("<Code>ExpiredToken<"), "expired keys with a valid signature");
});

t.test("a malformed Authorization header is refused", async (t) => {
  await using aws = await startAws();
  const cases: readonly (readonly [string | undefined, string])[] = [
    [undefined, "MissingAuthenticationToken"],
    ["Basic eDp5", "IncompleteSignature"],
    ["AWS4-HMAC-SHA256 Credential=a/b", "IncompleteSignature"],
    [
      `AWS4-HMAC-SHA256 Credential=a/20261122/eu-west-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=${"g".repeat(64)}`,
      "IncompleteSignature",
    ],
    [
      `AWS4-HMAC-SHA256 Credential=a/20261122/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=${"0".repeat(64)}`,
      "IncompleteSignature",
    ],
    [
      `AWS4-HMAC-SHA256 Credential=a/20261122/eu-west-1/sts/aws4_request, SignedHeaders=x-amz-date;host, Signature=${"0".repeat(64)}`,
      "IncompleteSignature",
    ],
  ];
  for (const [authorization, code] of cases)
    await t.test(`${authorization?.slice(0, 120) ?? "no header"} is ${code}`, async (t) => {
      const headers = {
        "content-type": "application/x-www-form-urlencoded",
        ...(authorization === undefined ? {} : { authorization }),
      };
      const answer = await fetch(aws.sts.url, { method: "POST", headers, body: form });
      t.ok((await answer.text()).includes(`<Code>${code}<`));
    });
});

function withKeys(keys: {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
}): Partial<Signing> {
  return { accessKeyId: keys.accessKeyId, secret: keys.secretAccessKey, token: keys.sessionToken };
}

/** Signs according to the documentation of Signature Version 4, independently of the verifying code. */
async function send(
  url: string,
  from: Signing,
): Promise<{ status: number; body: string; requestId: string }> {
  const headers: Record<string, string> = {
    "content-type": "application/x-www-form-urlencoded",
    host: new URL(url).host,
    "x-amz-date": from.amzDate,
    "x-amz-security-token": from.token,
  };
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest();
  const lines = from.signedHeaders.map((name) => `${name}:${headers[name]}\n`).join("");
  const canonical = `POST\n/\n\n${lines}\n${from.signedHeaders.join(";")}\n${sha256(from.body)}`;
  const scope = `${from.scopeDate}/eu-west-1/${from.service}/aws4_request`;
  const key = hmac(
    hmac(hmac(hmac(`AWS4${from.secret}`, from.scopeDate), "eu-west-1"), from.service),
    "aws4_request",
  );
  const signature = hmac(key, `AWS4-HMAC-SHA256\n${from.amzDate}\n${scope}\n${sha256(canonical)}`).toString(
    "hex",
  );
  const parts = [
    `Credential=${from.accessKeyId}/${scope}`,
    `SignedHeaders=${from.signedHeaders.join(";")}`,
    `Signature=${signature}`,
  ];
  const authorization = `AWS4-HMAC-SHA256 ${parts.join(", ")}`;
  const answer = await fetch(url, {
    method: "POST",
    headers: { ...headers, authorization },
    body: from.sentBody,
  });
  return {
    status: answer.status,
    body: await answer.text(),
    requestId: answer.headers.get("x-amzn-requestid") ?? "",
  };
}
