import t from "tap";
import { differences, parseSave } from "../../../src/firewall/iptables-save.ts";
import { saved, wanted } from "./iptables-fixture.ts";

const compare = (text: string) => differences(parseSave(text), wanted, "iptables");

t.test("the output of iptables-save after an apply is in place", (t) => {
  t.strictSame(compare(saved), { missing: [], unexpected: [] });
  const reordered = saved.replace("-p tcp -m tcp --dport 80", "-m tcp -p tcp --dport 80");
  t.strictSame(compare(reordered), { missing: [], unexpected: [] }, "in any order of the matches");
  t.end();
});

const changed: readonly {
  readonly is: string;
  readonly text: string;
  readonly missing?: readonly string[];
  readonly unexpected?: readonly string[];
}[] = [
  {
    is: "a missing rule",
    text: saved.replace("-A EC2METAPROXY-PROXY -j DROP\n", ""),
    missing: ["iptables -t mangle -A EC2METAPROXY-PROXY -j DROP"],
  },
  {
    is: "an added rule",
    text: saved.replace(
      "-A EC2METAPROXY-PROXY -j DROP\n",
      "-A EC2METAPROXY-PROXY -j DROP\n-A EC2METAPROXY-PROXY -j ACCEPT\n",
    ),
    unexpected: ["iptables -t mangle -A EC2METAPROXY-PROXY -j ACCEPT"],
  },
  {
    is: "a missing jump",
    text: saved.replace("-A PREROUTING -j EC2METAPROXY-REDIRECT\n", ""),
    missing: ["iptables -t nat -I PREROUTING -j EC2METAPROXY-REDIRECT"],
  },
  {
    is: "a jump after a rule that redirects the requests elsewhere",
    text: saved.replace(
      "-A PREROUTING -j EC2",
      "-A PREROUTING -d 169.254.169.254/32 -p tcp -j DNAT --to-destination 10.0.0.1:80\n-A PREROUTING -j EC2",
    ),
    missing: ["iptables -t nat -I PREROUTING -j EC2METAPROXY-REDIRECT, before the rules that decide first"],
  },
  {
    is: "an accept after a drop",
    text: saved.replace(
      "-A INPUT -j EC2METAPROXY-ACCEPT",
      "-A INPUT -i docker0 -j DROP\n-A INPUT -j EC2METAPROXY-ACCEPT",
    ),
    missing: ["iptables -t filter -I INPUT -j EC2METAPROXY-ACCEPT, before the rules that decide first"],
  },
  {
    is: "a duplicate jump",
    text: saved.replace(
      "-A INPUT -j EC2METAPROXY-ACCEPT\n",
      "-A INPUT -j EC2METAPROXY-ACCEPT\n-A INPUT -j EC2METAPROXY-ACCEPT\n",
    ),
    unexpected: ["iptables -t filter -A INPUT -j EC2METAPROXY-ACCEPT, 2 times"],
  },
  {
    is: "a chain of another configuration",
    text: saved.replace(":EC2METAPROXY-REDIRECT", ":EC2METAPROXY-USERS - [0:0]\n:EC2METAPROXY-REDIRECT"),
    unexpected: ["iptables -t nat -N EC2METAPROXY-USERS"],
  },
];

for (const { is, text, missing = [], unexpected = [] } of changed) {
  t.test(`${is} is detected`, (t) => {
    t.strictSame(compare(text), { missing, unexpected });
    t.end();
  });
}

t.test("a drop of INVALID packets before our jump is not reported", (t) => {
  const text = saved.replace(
    "-A INPUT -j EC2METAPROXY-ACCEPT",
    "-A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -j EC2METAPROXY-ACCEPT",
  );
  t.strictSame(compare(text), { missing: [], unexpected: [] });
  t.end();
});
