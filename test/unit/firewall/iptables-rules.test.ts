import t from "tap";
import { tablesOf, transition } from "../../../src/firewall/iptables-rules.ts";
import { parseSave } from "../../../src/firewall/iptables-save.ts";
import { rulesOf } from "./configurations.ts";
import { saved } from "./iptables-fixture.ts";

t.test("a removal names only our own chains", (t) => {
  const text = transition(parseSave(saved), new Map());
  t.match(
    text,
    "-D PREROUTING -j EC2METAPROXY-REDIRECT\n-F EC2METAPROXY-REDIRECT\n-X EC2METAPROXY-REDIRECT\n",
  );
  t.notMatch(text, /DOCKER/);
  t.notMatch(text, /^:/m);
  t.end();
});

t.test("guard chains are added to the new table before they are removed from the old one", (t) => {
  const rejecting = tablesOf(rulesOf("INTERFACES=docker0\nREJECT_INSTEAD_OF_DROP=yes"), "ipv4");
  const order = [...transition(parseSave(saved), rejecting).matchAll(/^\*(\w+)/gm)].map(([, name]) => name);
  t.strictSame(order, ["filter", "security", "nat", "mangle"]);
  t.end();
});
