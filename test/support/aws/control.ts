import type { IncomingMessage, ServerResponse } from "node:http";
import type { Aws } from "./aws.ts";
import { noImdsFaults, noStsFaults, readFaults } from "./faults.ts";
import { type Address, type Listening, listenOn } from "./listen.ts";

/**
 * The stand-in's controls over HTTP, for tests that run it as a program in another network namespace.
 *
 *     GET  /requests        requests to IMDS                 GET  /calls    calls to STS
 *     GET  /counts          in flight, most at once, totals  GET  /secrets  every secret issued
 *     GET  /faults          the faults that are set
 *     PUT  /faults          { "imds": {...}, "sts": {...}, "roles": { ARN: {...} } }, omitted parts are kept
 *     POST /rotate          { "expiresInSeconds"?: n } new host credentials
 *     POST /user            { "name"?: "..." } permanent keys of an IAM user
 *     POST /invalidate-tokens
 *     POST /reset           turns faults off and clears the records
 */
export async function startControl(aws: Aws, address: Address): Promise<Listening> {
  return listenOn([address], {}, (req, res) => {
    answer(aws, req).then(
      (value) => send(res, 200, value),
      (error: unknown) => send(res, 400, { error: error instanceof Error ? error.message : String(error) }),
    );
  });
}

async function answer(aws: Aws, req: IncomingMessage): Promise<unknown> {
  const { imds, sts } = aws;
  const input = await readJson(req);
  switch (`${req.method} ${req.url}`) {
    case "GET /requests":
      return imds.requests.list();
    case "GET /calls":
      return sts.calls.list();
    case "GET /counts":
      return { imds: { total: imds.requests.total }, sts: sts.counts() };
    case "GET /secrets":
      return aws.secrets();
    case "GET /faults":
      return { imds: imds.faults(), sts: sts.faults.all };
    case "PUT /faults":
      return setFaults(aws, input);
    case "POST /rotate": {
      const seconds = input.expiresInSeconds;
      if (seconds !== undefined && typeof seconds !== "number")
        throw new Error("expiresInSeconds: expected a number");
      return imds.credentials.rotate(seconds === undefined ? undefined : seconds * 1000);
    }
    case "POST /user":
      return aws.addUser(typeof input.name === "string" ? input.name : "proxy");
    case "POST /invalidate-tokens":
      imds.invalidateTokens();
      return {};
    case "POST /reset":
      aws.reset();
      return {};
    default:
      throw new Error(`unknown control: ${req.method} ${req.url}`);
  }
}

/** Everything is checked before anything is set: an error in one part leaves all faults unchanged. */
function setFaults(aws: Aws, input: Readonly<Record<string, unknown>>): unknown {
  const changes: (() => void)[] = [];
  for (const [part, value] of Object.entries(input)) {
    if (part === "imds") {
      const faults = must(readFaults(noImdsFaults, value));
      changes.push(() => aws.imds.setFaults(faults));
    } else if (part === "sts") {
      const faults = must(readFaults(noStsFaults, value));
      changes.push(() => aws.sts.faults.set(faults));
    } else if (part === "roles") {
      for (const [roleArn, ofRole] of Object.entries(value ?? {})) {
        const faults = must(readFaults(noStsFaults, ofRole));
        changes.push(() => aws.sts.faults.setFor(roleArn, faults));
      }
    } else {
      throw new Error(`faults: expected imds, sts or roles, got ${part}`);
    }
  }
  for (const change of changes) change();
  return { imds: aws.imds.faults(), sts: aws.sts.faults.all };
}

function must<Faults>(read: { readonly faults: Faults } | { readonly problem: string }): Faults {
  if ("problem" in read) throw new Error(read.problem);
  return read.faults;
}

async function readJson(req: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  let text = "";
  for await (const chunk of req.setEncoding("utf8")) text += String(chunk);
  const value: unknown = text === "" ? {} : JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("expected a JSON object");
  return { ...value };
}

function send(res: ServerResponse, status: number, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  res.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  res.end(body);
}
