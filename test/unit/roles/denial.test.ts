import { readFile } from "node:fs/promises";
import t from "tap";
import { denialCodes } from "../../../src/roles/denial.ts";

const read = (path: string) => readFile(new URL(`../../../${path}`, import.meta.url), "utf8");

t.test("docs/refusals.md lists every code that a request can be refused with", async (t) => {
  const documented = [...(await read("docs/refusals.md")).matchAll(/^\| (`.*?) \|/gm)].flatMap(
    ([, cell = ""]) => [...cell.matchAll(/`([a-z0-9-]+)`/g)].map(([, code]) => code),
  );
  const written = async (path: string, call: RegExp) =>
    [...(await read(path)).matchAll(call)].map(([, code = ""]) => code);
  const codes = [
    ...denialCodes,
    ...(await written("src/imds/handler.ts", /\brefuse\(\s*\d+,\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/imds/paths.ts", /\brefused\(\s*\d+,\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/imds/policy.ts", /\bdenied\(\s*"([a-z0-9-]+)"/g)),
    ...(await written("src/containers/provenance.ts", /\brefusal\(\s*"([a-z0-9-]+)"/g)),
  ];
  for (const code of new Set(codes)) t.ok(documented.includes(code), code);
  t.equal(new Set(documented).size, documented.length, "each code once");
});
