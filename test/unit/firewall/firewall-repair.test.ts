import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";

const script = join(import.meta.dirname, "../../../firewall/firewall-repair");

/**
 * The script on a host of stubs: `state` is what nft lists, and `apply` is what `ec2metaproxy firewall apply`
 * does. Returns how often it was called.
 */
function repairOn(t: Test, apply: string) {
  const folder = t.testdir({ bin: {}, run: {}, state: "intact" });
  const path = (name: string) => join(folder, name);
  const stub = (name: string, text: string) => {
    writeFileSync(path(`bin/${name}`), `#!/bin/sh\n${text}\n`);
    chmodSync(path(`bin/${name}`), 0o755);
  };
  stub("nft", `cat ${path("state")}`);
  stub("ip", "true");
  stub("ec2metaproxy", `echo x >>${path("applied")}\n${apply.replaceAll("STATE", path("state"))}`);
  const copy = readFileSync(script, "utf8").replace(/^PATH=/m, `PATH=${path("bin")}:`);
  writeFileSync(path("repair"), copy);
  return {
    run: () => execFileSync("sh", [path("repair")], { env: { RUNTIME_DIRECTORY: path("run") } }).toString(),
    set: (state: string) => writeFileSync(path("state"), state),
    good: path("run/rules-last-found-good"),
    applied: () => (existsSync(path("applied")) ? readFileSync(path("applied"), "utf8").length / 2 : 0),
  };
}

const inPlace = "echo 'nftables: table inet ec2metaproxy already in place (docker0)'";

t.test("rules that were found right are not checked again until they change", async (t) => {
  const { run, set, applied } = repairOn(t, inPlace);
  t.equal(run(), "");
  t.equal(run(), "");
  t.equal(applied(), 1);
  set("flushed");
  run();
  t.equal(applied(), 2);
});

t.test("rules that the guard restores while the script runs do not make it trust flushed ones", async (t) => {
  const { run, set, applied } = repairOn(t, `echo intact >STATE; ${inPlace}`);
  set("flushed");
  run();
  set("flushed");
  run();
  t.equal(applied(), 2, "flushed again, they are applied again");
});

t.test("rules that somebody flushes while the script runs are not trusted", async (t) => {
  const { run, applied } = repairOn(t, `echo flushed >STATE; ${inPlace}`);
  run();
  run();
  t.equal(applied(), 2);
});

t.test("what was applied is reported", async (t) => {
  const { run, set } = repairOn(
    t,
    "echo intact >STATE; echo 'nftables: table inet ec2metaproxy applied (docker0)'",
  );
  set("flushed");
  t.match(run(), "applied (docker0)");
});

t.test("each run that finds the rules right says so by the time of its file", async (t) => {
  const { run, good, applied } = repairOn(t, inPlace);
  run();
  utimesSync(good, 1, 1);
  run();
  t.ok(statSync(good).mtimeMs > 1_000);
  t.equal(applied(), 1);
});
