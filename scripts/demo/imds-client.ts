import { request } from "node:http";

/** An answer of the metadata service. */
export type Answer = { readonly status: number; readonly body: string };

/** Sends one request as an SDK does, from an address of this machine. */
export function ask(
  proxy: { readonly host: string; readonly port: number },
  from: string,
  method: "GET" | "PUT",
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { ...proxy, method, path, headers, localAddress: from, timeout: 10_000, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
        response.on("error", reject);
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error("no answer within 10 s")));
    outgoing.on("error", reject);
    outgoing.end();
  });
}

/** The result of an SDK's three requests: for a session token, the role's name and the role's credentials. */
export type Outcome =
  | {
      readonly kind: "credentials";
      readonly role: string;
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly token: string;
      readonly expiration: string;
    }
  | { readonly kind: "nothing"; readonly why: string };

type Ask = (
  method: "GET" | "PUT",
  path: string,
  headers: Readonly<Record<string, string>>,
) => Promise<Answer>;

/** Sends the IMDSv2 requests of an AWS SDK from an address of this machine. */
export function fetchCredentials(
  proxy: { readonly host: string; readonly port: number },
  from: string,
): Promise<Outcome> {
  return outcomeOf((method, path, headers) => ask(proxy, from, method, path, headers));
}

/** The same requests, sent by `ask`. */
export async function outcomeOf(ask: Ask): Promise<Outcome> {
  const token = await ask("PUT", "/latest/api/token", { "X-aws-ec2-metadata-token-ttl-seconds": "21600" });
  if (token.status !== 200) return { kind: "nothing", why: `token: ${token.status}` };
  const headers = { "X-aws-ec2-metadata-token": token.body };
  const list = "/latest/meta-data/iam/security-credentials/";
  const role = await ask("GET", list, headers);
  if (role.status !== 200) return { kind: "nothing", why: `role list: ${role.status}` };
  const credentials = await ask("GET", `${list}${role.body}`, headers);
  if (credentials.status !== 200) return { kind: "nothing", why: `credentials: ${credentials.status}` };
  const document = JSON.parse(credentials.body) as Readonly<Record<string, string>>; // an IMDS credential document
  const {
    Code,
    Message = "",
    AccessKeyId = "",
    SecretAccessKey = "",
    Token = "",
    Expiration = "",
  } = document;
  if (Code !== "Success") return { kind: "nothing", why: `${Code}: ${Message.split(". ")[0]}` };
  return {
    kind: "credentials",
    role: role.body,
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    token: Token,
    expiration: Expiration,
  };
}
