import { malformedPolicy, type StsError } from "./sts-errors.ts";

/** IAM's error for the form of a session policy; undefined if IAM would accept it. */
export function policyProblem(text: string): StsError | undefined {
  let policy: unknown;
  try {
    policy = JSON.parse(text);
  } catch {
    return malformedPolicy("This policy contains invalid Json");
  }
  if (!isRecord(policy)) return malformedPolicy("Syntax errors in policy.");
  const { Version: version, Statement: statement } = policy;
  if (version !== undefined && version !== "2012-10-17" && version !== "2008-10-17") {
    return malformedPolicy("The policy must contain a valid version string");
  }
  const statements = Array.isArray(statement) ? statement : [statement];
  if (statement === undefined || statements.length === 0)
    return malformedPolicy("Missing required field Statement");
  return statements.map(statementProblem).find((problem) => problem !== undefined);
}

function statementProblem(statement: unknown): StsError | undefined {
  if (!isRecord(statement)) return malformedPolicy("Syntax errors in policy.");
  if (statement.Effect !== "Allow" && statement.Effect !== "Deny")
    return malformedPolicy("Missing required field Effect");
  const has = (name: string) => statement[name] !== undefined || statement[`Not${name}`] !== undefined;
  if (!has("Action")) return malformedPolicy("Policy statement must contain actions.");
  if (!has("Resource")) return malformedPolicy("Policy statement must contain resources.");
  if (statement.Principal !== undefined)
    return malformedPolicy("Policy document should not specify a principal.");
  return undefined;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
