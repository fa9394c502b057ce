import t from "tap";
import { staticsOf } from "../../../src/commands/inventory.ts";
import { canonicalAddress } from "../../../src/config/address.ts";
import { isConfig, parseConfig } from "../../../src/config/load.ts";
import { Directory } from "../../../src/containers/directory.ts";

const written = (...addresses: readonly string[]) =>
  parseConfig(
    JSON.stringify({ staticContainers: Object.fromEntries(addresses.map((each) => [each, { name: "vm" }])) }),
    "config.json",
  );

const spellings: readonly [written: string, remoteAddress: string, id: string][] = [
  ["10.0.0.5", "10.0.0.5", "static:10.0.0.5"],
  ["10.0.0.5", "::ffff:10.0.0.5", "static:10.0.0.5"],
  ["0:0:0:0:0:0:0:1", "::1", "static:::1"],
  ["::0001", "::1", "static:::1"],
  ["::ffff:127.0.0.2", "127.0.0.2", "static:127.0.0.2"],
  ["::FFFF:7f00:2", "127.0.0.2", "static:127.0.0.2"],
  ["0:0:0:0:0:ffff:10.0.0.5", "::ffff:10.0.0.5", "static:10.0.0.5"],
  ["2001:DB8:0:0:0:0:0:A", "2001:db8::a", "static:2001:db8::a"],
  ["fd00::0001:0", "fd00::1:0", "static:fd00::1:0"],
  ["fe80::1", "fe80::1%eth0", "static:fe80::1"],
];

for (const [address, remote, id] of spellings) {
  t.test(`a caller from ${remote} is found where the key is ${address}`, (t) => {
    const config = written(address);
    if (!isConfig(config)) throw new Error(JSON.stringify(config));
    const found = new Directory({ statics: staticsOf(config) }).at(canonicalAddress(remote) ?? "");
    t.match(found, { kind: "container", container: { id, name: "vm" } });
    t.end();
  });
}

t.test("two spellings of one address are a problem that names both", (t) => {
  for (const [one, other, canonical] of [
    ["::1", "0:0:0:0:0:0:0:1", "::1"],
    ["10.0.0.5", "::ffff:10.0.0.5", "10.0.0.5"],
    ["FD00::A", "fd00::a", "fd00::a"],
  ] as const) {
    t.same(written(one, other), [
      {
        where: `config.json:1: staticContainers.${other}`,
        message: `"${other}" is the address that "${one}" is, written another way`,
        hint: `Keep one of them, as "${canonical}".`,
      },
    ]);
  }
  t.end();
});

const never: readonly [string, RegExp][] = [
  ["0.0.0.0", /no address/],
  ["0.1.2.3", /no address/],
  ["::", /no address/],
  ["0:0:0:0:0:0:0:0", /no address/],
  ["::ffff:0.0.0.0", /no address/],
  ["255.255.255.255", /broadcast/],
  ["224.0.0.1", /multicast/],
  ["239.255.255.250", /multicast/],
  ["::ffff:224.0.0.1", /multicast/],
  ["ff02::1", /multicast/],
  ["FF05::2", /multicast/],
  ["169.254.169.254", /metadata service/],
  ["::ffff:169.254.169.254", /metadata service/],
  ["fd00:ec2::254", /metadata service/],
  ["fd00:0ec2:0::0254", /metadata service/],
  ["fe80::1%eth0", /without a zone/],
  ["10.0.0.5/24", /without a prefix length/],
  ["fd00::5/64", /without a prefix length/],
  ["10.0.0.05", /without leading zeros/],
  ["010.0.0.5", /without leading zeros/],
  ["10.0.0.256", /from 0 to 255/],
  ["10.0.5", /expected an IP address/],
  ["0x0a.0.0.5", /expected an IP address/],
  ["[::1]", /expected an IP address/],
  ["::1 ", /expected an IP address/],
  ["constructor", /expected an IP address/],
  ["", /expected an IP address/],
];

for (const [address, expected] of never) {
  t.test(`"${address}" is no caller's address`, (t) => {
    const found = written(address);
    if (isConfig(found)) throw new Error("it was taken");
    t.equal(found.length, 1);
    t.match(found[0], { message: expected, hint: /^Meaning: Addresses that no engine knows/ });
    t.end();
  });
}
