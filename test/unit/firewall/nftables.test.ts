import t from "tap";
import type { Run } from "../../../src/firewall/command.ts";
import { compareListing, nftables } from "../../../src/firewall/nftables.ts";
import { rulesOf } from "./configurations.ts";

const rules = rulesOf("INTERFACES=docker0\nREJECT_INSTEAD_OF_DROP=yes", undefined, {
  proxy: 18_000,
  credentials: 18_008,
});
const noCommands: Run = (command) => Promise.reject(new Error(`rendering runs ${command}`));
const rendered = nftables(noCommands)
  .render(rules)
  .replace(/^(add|delete) table .*\n/gm, "");

/** As nft 1.0.6 and 1.1.3 list it with `-s`: priority names and no counter values. */
const listing = rendered
  .replace("priority -101;", "priority dstnat - 1;")
  .replaceAll("priority -1;", "priority filter - 1;")
  .replace("priority 101;", "priority srcnat + 1;")
  .replaceAll("icmpx type ", "icmpx ");

const inPlace: readonly { readonly is: string; readonly listing: string }[] = [
  { is: "what was rendered", listing: rendered },
  { is: "what nft 1.0.6 and 1.1.3 list", listing },
  {
    is: "a listing with counter values",
    listing: listing.replaceAll("counter ", "counter packets 12 bytes 720 "),
  },
  { is: "a listing with handles", listing: listing.replace(/(comment "[^"]+")$/gm, "$1 # handle 7") },
];

for (const { is, listing } of inPlace) {
  t.test(`${is} is in place`, (t) => {
    t.strictSame(compareListing(rules, listing), { present: true, missing: [], unexpected: [] });
    t.end();
  });
}

const changed: readonly {
  readonly is: string;
  readonly listing: string;
  readonly missing?: readonly string[];
  readonly unexpected?: readonly string[];
}[] = [
  {
    is: "a missing rule",
    listing: listing.replace(/^.*iifname "docker0" ip daddr .*\n/m, ""),
    missing: [
      'chain redirect_metadata: iifname "docker0" ip daddr 169.254.169.254 tcp dport 80 counter redirect to :18000 comment "to the proxy"',
    ],
  },
  {
    is: "a chain with another priority",
    listing: listing.replace("hook prerouting priority dstnat - 1", "hook prerouting priority dstnat + 5"),
    missing: ["chain redirect_metadata: type nat hook prerouting priority -101; policy accept;"],
    unexpected: ["chain redirect_metadata: type nat hook prerouting priority -95; policy accept;"],
  },
  {
    is: "an added accept rule",
    listing: listing.replace("policy accept;\n\t\ttcp dport", "policy accept;\n\t\taccept\n\t\ttcp dport"),
    unexpected: ["chain guard_input: accept"],
  },
  {
    is: "the same rules in another order",
    listing: listing.replace(/(\t\tiifname "lo" .*\n)(\t\tiifname "docker0" counter reject .*\n)/, "$2$1"),
    missing: ["chain proxy_port: its rules in their order"],
  },
  {
    is: "a table with the flag dormant",
    listing: listing.replace("{\n", "{\n\tflags dormant\n"),
    unexpected: ["table: flags dormant"],
  },
  {
    is: "an added chain",
    listing: listing.replace(/\}\n$/, "\tchain extra {\n\t\taccept\n\t}\n}\n"),
    unexpected: ["extra: accept"],
  },
];

for (const { is, listing, missing = [], unexpected = [] } of changed) {
  t.test(`${is} is detected`, (t) => {
    t.strictSame(compareListing(rules, listing), { present: true, missing, unexpected });
    t.end();
  });
}
