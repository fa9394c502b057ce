import t from "tap";
import { leftBehind, marked, parseChains } from "../../../src/firewall/iptables-base-chains.ts";
import { parseSave } from "../../../src/firewall/iptables-save.ts";
import { saved, wanted } from "./iptables-fixture.ts";

t.test("only the base chains that iptables-nft created for us are deleted", (t) => {
  const before = parseSave(saved.replace(/EC2METAPROXY/g, "OTHER"));
  const present = parseChains(
    "table ip filter {\n\tchain FORWARD {\n\t}\n}\ntable ip nat {\n\tchain PREROUTING {\n\t}\n\tchain POSTROUTING {\n\t}\n}\n",
  );
  const markers = [...marked(wanted, before, present)].map(([name, { chains }]) => [
    name,
    [...chains.keys()].find((chain) => chain.includes("MADE")),
  ]);
  t.strictSame(markers, [
    ["mangle", "EC2METAPROXY-MADE-TPIFOQ"],
    ["filter", "EC2METAPROXY-MADE-IO"],
    ["nat", "EC2METAPROXY-MADE-IO"],
  ]);
  const bare = (text: string) => text.replace(/^(-A|:).*EC2METAPROXY.*\n/gm, "");
  const now = parseChains("table ip mangle {\n\tchain INPUT {\n\t}\n\tchain FORWARD {\n\t}\n}\n");
  t.equal(
    leftBehind(parseSave(saved), new Map(), parseSave(bare(saved)), now, "ipv4"),
    "delete chain ip mangle INPUT\ndelete chain ip mangle FORWARD\ndelete table ip mangle\n",
  );
  const used = bare(saved).replace(
    ":INPUT ACCEPT [10:600]\n",
    ":INPUT ACCEPT [10:600]\n-A INPUT -j TTL --ttl-set 1\n",
  );
  t.equal(
    leftBehind(parseSave(saved), new Map(), parseSave(used), now, "ipv4"),
    "delete chain ip mangle FORWARD\n",
  );
  t.end();
});
