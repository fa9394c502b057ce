import { whoAmI } from "../../scripts/demo/who-am-i.ts";
import type { Result, Stage } from "./cases.ts";
import type { Answer } from "./program.ts";

/** Ok if STS identifies the holder of the credentials as the role. */
export async function granted(answer: Answer, { aws, arn }: Pick<Stage, "aws" | "arn">): Promise<Result> {
  const { accessKeyId, token, error } = answer;
  if (error !== undefined) return { verdict: "wrong", note: error };
  // A client that does not show the secret key shows the other two; the stand-in knows the secret key for
  // them.
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
