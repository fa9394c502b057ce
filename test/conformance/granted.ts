import { whoAmI } from "../../scripts/demo/who-am-i.ts";
import type { Result, Stage } from "./cases.ts";
import type { Answer } from "./program.ts";

/** The credentials are the role's, as STS itself says of whoever holds them. */
export async function granted(answer: Answer, { aws, arn }: Pick<Stage, "aws" | "arn">): Promise<Result> {
  const { accessKeyId, token, error } = answer;
  if (error !== undefined) return { verdict: "wrong", note: error };
  // Who shows no secret key shows the rest, and the stand-in knows whose that is.
  const issued = aws.secrets().find((one) => one.accessKeyId === accessKeyId && one.sessionToken === token);
  const secretAccessKey = answer.secretAccessKey ?? issued?.secretAccessKey;
  const who =
    answer.arn ??
    (await whoAmI(aws.sts.url, {
      accessKeyId: accessKeyId ?? "",
      secretAccessKey: secretAccessKey ?? "",
      token: token ?? "",
    }).catch(String));
  return arn.test(who) ? { verdict: "ok", note: "" } : { verdict: "wrong", note: who };
}
