import t from "tap";
import { isTestedApi, negotiate } from "../../../src/engine/api-version.ts";

const cases = [
  ["Docker 20.10", "1.41", "1.12", "1.41"],
  ["Docker 26.1", "1.45", "1.24", "1.45"],
  ["Docker 29", "1.52", "1.44", "1.52"],
  ["a newer one", "1.60", "1.44", "1.52"],
  ["one that dropped every version that we know", "1.70", "1.60", "1.60"],
  ["an older one", "1.40", "1.12", "1.40"],
  ["one that does not say its oldest", "1.47", undefined, "1.47"],
  ["one that says nonsense about its oldest", "1.47", "latest", "1.47"],
  ["1.9 is older than 1.41", "1.9", "1.1", "1.9"],
] as const;
for (const [what, newest, oldest, expected] of cases) {
  t.test(`${what}: ${newest} down to ${oldest} is negotiated as ${expected}`, async (t) => {
    t.equal(negotiate(newest, oldest), expected);
  });
}

for (const version of ["1.41", "1.47", "1.52"])
  t.test(`${version} is in the tested range`, async (t) => t.ok(isTestedApi(version)));
for (const version of ["1.40", "1.53", "1.9", "2.0"])
  t.test(`${version} is outside the tested range`, async (t) => t.notOk(isTestedApi(version)));
