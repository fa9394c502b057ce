import t from "tap";
import { watchHost } from "../../../src/commands/guard-watch.ts";

function fixture(t: { teardown(run: () => Promise<void>): void }) {
  const done: string[] = [];
  const lines = new Map<string, (line: string) => void>();
  const host = { addresses: "2: docker0: <UP>\n    inet 172.17.0.1/16 scope global docker0\n", reads: 0 };
  const sleeps: { readonly ms: number; readonly wake: () => void }[] = [];
  const monitors = watchHost({
    follow: (command, _args, onLine, signal) => {
      lines.set(command, onLine);
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve("aborted")));
    },
    run: async () => {
      host.reads += 1;
      return { kind: "ran", exitCode: 0, stdout: host.addresses, stderr: "" };
    },
    repair: {
      request: () => void done.push("repair"),
      restore: (gone) => void done.push(`restore ${gone.join(", ")}`),
      requestForIptables: () => void done.push("repair iptables"),
    },
    lock: {
      changedBy: (marks) => void done.push(`lock changed by ${marks.join(" ") || "others"}`),
      lookAgain: () => void done.push("look again"),
      rebuild: () => void done.push("rebuild"),
    },
    log: { debug() {}, info() {}, warn: (_fields, text) => void done.push(text), error() {} },
    now: () => 0,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        signal?.addEventListener("abort", () => resolve());
        sleeps.push({ ms, wake: resolve });
      }),
  });
  t.teardown(async () => void (await Promise.all(monitors.map((monitor) => monitor.close()))));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const settle = async () => {
    for (const { wake } of sleeps.splice(0)) wake();
    await turn();
  };
  const nft = (...text: readonly string[]) => {
    for (const line of [...text, "# new generation 5 by process 7 (nft)"]) lines.get("nft")?.(line);
  };
  const ip = (...text: readonly string[]) => {
    for (const line of text) lines.get("ip")?.(line);
  };
  return { done, host, settle, nft, ip, sleeps };
}

t.test("when the monitors have started, everything is looked at once", async (t) => {
  const { done, settle } = fixture(t);
  await settle();
  t.same(done, ["rebuild", "repair", "look again", "repair"]);
});

t.test("a flush repairs the lock and the base rules; our own change of the lock does neither", async (t) => {
  const { done, nft } = fixture(t);
  nft("delete table inet ec2metaproxy", "delete table bridge ec2metaproxy_lock");
  nft("add element bridge ec2metaproxy_lock writer { 0x0000000a }");
  nft("delete rule ip nat PREROUTING handle 4");
  nft("add rule ip nat DOCKER counter return");
  nft("insert rule inet ec2metaproxy guard_input accept");
  t.same(done, [
    "lock changed by others",
    "restore inet ec2metaproxy",
    "lock changed by 10",
    "repair iptables",
    "repair",
  ]);
});

t.test("a routing rule is repaired at once", async (t) => {
  const { done, ip } = fixture(t);
  ip("[RULE]Deleted 170:\tfrom all to 169.254.169.254 blackhole");
  ip("[RULE]170:\tfrom all to 169.254.169.254 blackhole");
  t.same(done, ["restore routes", "repair"]);
});

t.test("the many changes of links by a container's start are one look at the ports", async (t) => {
  const { done, ip, settle } = fixture(t);
  await settle();
  done.length = 0;
  ip("[LINK]3: v0@v1: <UP>", "[LINK]3: v0@v1: <UP>", "[LINK]4: v2@v1: <UP>");
  t.same(done, []);
  await settle();
  t.same(done, ["look again"]);
  ip("[LINK]Deleted 3: v0@v1: <UP>");
  await settle();
  t.same(done, ["look again", "look again"]);
});

t.test(
  "a link that nft could take for another one makes the lock write its table, also after its end",
  async (t) => {
    const { done, ip } = fixture(t);
    ip("[LINK]91: 57@if2: <UP>", "[LINK]Deleted 91: 57@if2: <UP>");
    t.same(done, ["lock changed by others", "lock changed by others"]);
  },
);

t.test("where a monitor has lost events, everything is looked at", async (t) => {
  const { done, ip, nft } = fixture(t);
  ip("netlink receive error No buffer space available (105)");
  t.same(done.splice(0), ["lock changed by others", "repair"]);
  nft("# ERROR: We lost some netlink events!");
  t.same(done, ["lock changed by others", "repair"]);
});

t.test("addresses lead to a check of the rules only if the host's own have changed", async (t) => {
  const { done, host, ip, settle } = fixture(t);
  await settle();
  done.length = 0;
  const line = "[ADDR]4: b0    inet 10.9.9.1/24 scope global b0";
  ip(line, line, line);
  await settle();
  t.same(done, ["repair"], "the first time, it is not known whether they have");
  t.equal(host.reads, 1);
  host.addresses += "9: veth1: <UP> master docker0\n    inet6 fe80::1/64 scope link\n";
  ip(line);
  await settle();
  t.same(done, ["repair"]);
  host.addresses += "10: shop0: <UP>\n    inet 172.19.0.1/16 scope global shop0\n";
  ip(line);
  await settle();
  t.same(done, ["repair", "repair"]);
});
