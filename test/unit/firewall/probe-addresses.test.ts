import t from "tap";
import { candidates, networksOf } from "../../../src/firewall/probe-addresses.ts";

const rows = [
  ["172.17.0.1", 16, 2, ["172.17.255.254", "172.17.255.253"]],
  ["10.1.2.254", 24, 2, ["10.1.2.253", "10.1.2.252"]],
  ["10.1.2.5", 30, 4, ["10.1.2.6"]],
  ["10.1.2.0", 31, 4, []],
  ["10.1.2.1", 32, 4, []],
  ["fd30:1::1", 64, 1, ["fd30:1::ffff:ffff:ffff:fffe"]],
  ["fd30:1::1", 126, 4, ["fd30:1::2"]],
] as const;

for (const [gateway, prefix, count, expected] of rows)
  t.test(
    `the last free-looking addresses of ${gateway}/${prefix} are ${expected.join(", ") || "none"}`,
    (t) => {
      t.same(candidates(gateway, prefix, count), expected);
      t.end();
    },
  );

t.test("the first global address of each family counts, whatever else the bridge has", (t) => {
  const info = (family: string, local: string, prefixlen: number, scope = "global") => ({
    family,
    local,
    prefixlen,
    scope,
  });
  const listing = JSON.stringify([
    {},
    {
      ifname: "docker0",
      addr_info: [
        info("inet6", "fe80::1", 64, "link"),
        info("inet", "172.17.0.1", 16),
        info("inet", "172.18.0.1", 16),
        info("inet6", "fd30:0001::1", 64),
        null,
      ],
    },
  ]);
  t.same(networksOf(listing), {
    ipv4: { address: "172.17.0.1", prefix: 16, network: "172.17.0.0/16" },
    ipv6: { address: "fd30:1::1", prefix: 64, network: "fd30:1::/64" },
  });
  t.same(networksOf("[]"), { ipv4: undefined, ipv6: undefined });
  t.end();
});
