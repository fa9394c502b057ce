import { X509Certificate } from "node:crypto";
import type { Environment } from "../config/load.ts";
import { readText } from "../config/read-text.ts";
import { parseDockerHost } from "../engine/endpoint.ts";
import { exitCodes, explain, OperatorError, type Problem } from "../errors.ts";
import type { Services } from "./services.ts";

/** Where the units read variables from. */
const environmentFile = "/etc/ec2metaproxy/environment";

/** What a command must have right: `aws` all but DOCKER_HOST, `engine` only that. */
export type EnvironmentUse = { readonly aws: boolean; readonly engine: boolean };

/**
 * The environment that `check` judges: the service's, where it can be read. Otherwise this process's, in
 * which a DOCKER_HOST may be meant for other programs. Where there is a service whose variables this user may
 * not read, problems of the shell are notes; but not with --config-only, which the service's own unit and the
 * packages run with its variables.
 * @throws OperatorError like usableEnvironment
 */
export async function checkedEnvironment(
  { environment, environmentOf, unreadable }: Pick<Services, "environment" | "environmentOf" | "unreadable">,
  configOnly: boolean,
): Promise<Environment> {
  if (environmentOf === "service") return usableEnvironment(environment, { aws: true, engine: true });
  try {
    return await usableEnvironment(environment, { aws: true, engine: false });
  } catch (error) {
    if (configOnly || unreadable.length === 0 || !(error instanceof OperatorError)) throw error;
    const problems = error.problems.map(({ where, message, hint }) => ({
      ...{ where: `${where} of this shell:`, message, hint },
    }));
    return { ...environment, ignored: [...environment.ignored, ...problems] };
  }
}

/**
 * The environment, checked: half a set of keys or a proxy that cannot be parsed must not turn into another
 * identity or another way to STS.
 * @throws OperatorError with exit code 78 and every problem, each with the variable's name
 */
export async function usableEnvironment(environment: Environment, use: EnvironmentUse): Promise<Environment> {
  const problems: Problem[] = [];
  let { caBundle } = environment;
  if (use.aws) {
    problems.push(...environment.problems);
    const path = environment.caBundlePath;
    if (path !== undefined && !problems.some(({ where }) => where === "AWS_CA_BUNDLE")) {
      const read = await readBundle(path);
      if (typeof read === "string") caBundle = read;
      else problems.push(read);
    }
  }
  const { dockerHost } = environment;
  const docker = use.engine && dockerHost !== undefined ? dockerHostProblem(dockerHost) : undefined;
  if (docker !== undefined) problems.push(docker);
  if (problems.length === 0) return { ...environment, caBundle };
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  throw new OperatorError(`the environment has ${count}`, {
    problems,
    exitCode: exitCodes.configuration,
    hint: `Edit ${environmentFile}, where the services read these variables.`,
  });
}

/** The configuration and the environment. Rejects with the problems of both, to show all at once. */
export async function bothOf<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === "fulfilled" && b.status === "fulfilled") return [a.value, b.value];
  const errors: readonly unknown[] = [a, b].flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
  const [one, other] = errors;
  if (!(one instanceof OperatorError && other instanceof OperatorError)) throw one;
  throw new OperatorError(`${explain(one)}, and ${explain(other)}`, {
    problems: [...one.problems, ...other.problems],
    exitCode: one.exitCode,
    hint: `${one.hint} ${other.hint}`,
  });
}

function dockerHostProblem(text: string): Problem | undefined {
  try {
    parseDockerHost(text, false);
    return undefined;
  } catch (error) {
    const hint = error instanceof OperatorError ? error.hint : "";
    return { where: "DOCKER_HOST", message: explain(error).replace(/^dockerHost: /, ""), hint };
  }
}

async function readBundle(path: string): Promise<string | Problem> {
  const problem = (message: string, hint: string) => ({ where: "AWS_CA_BUNDLE", message, hint });
  let text: string | Problem;
  try {
    text = await readText(path);
  } catch (error) {
    return problem(explain(error), `The service's user must be able to read it: chmod 0644 ${path}.`);
  }
  if (typeof text !== "string") return problem(text.message, text.hint);
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  const pem =
    "It must hold the authorities' certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE.";
  if (certificates.length === 0) return problem(`${path} has no certificate in PEM`, pem);
  for (const [index, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate);
    } catch {
      return problem(`certificate ${index + 1} of ${path} cannot be read`, pem);
    }
  }
  return text;
}
