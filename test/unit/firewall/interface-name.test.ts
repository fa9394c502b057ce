import t from "tap";
import { isInterfaceName, matchesInterface } from "../../../src/firewall/interface-name.ts";

for (const name of ["docker0", "br-0123456789ab", "shop0", "my.br", "a@b", "x", "a_b", "abcdefghijklmno"])
  t.test(`${name} is the name of an interface`, async (t) => t.ok(isInterfaceName(name)));

for (const name of [
  "",
  "lo",
  ".",
  "..",
  "abcdefghijklmnop",
  "br*",
  "br+",
  'a"b',
  "a b",
  "a\nb",
  "a;b",
  "a}b",
  "a#b",
  "a/b",
  "é",
  "br0\n",
  "57",
  "0x2",
])
  t.test(`${JSON.stringify(name)} never gets into a rule`, async (t) => t.notOk(isInterfaceName(name)));

for (const [pattern, name, expected] of [
  ["docker0", "docker0", true],
  ["docker0", "docker00", false],
  ["br-*", "br-1", true],
  ["br-*", "br1", false],
  ["br-*", "br-", true],
] as const)
  t.test(`${pattern} ${expected ? "matches" : "does not match"} ${name}`, async (t) =>
    t.equal(matchesInterface(pattern, name), expected),
  );
