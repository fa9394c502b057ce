import t from "tap";
import { asAssumeRoleError } from "../../../src/credentials/sdk-errors.ts";

for (const name of ["Unknown", "UnknownError", "NotFound", "Error", ""]) {
  t.test(`an error that the SDK names "${name}" has no code, so it is not a refusal`, async (t) => {
    const error = Object.assign(new Error("words"), {
      name,
      $fault: "client",
      $metadata: { httpStatusCode: 403 },
    });
    t.match(asAssumeRoleError(error, false), {
      kind: "temporary",
      code: "UnusableAnswer",
      httpStatus: 403,
    });
  });
}
