import t from "tap";
import { conflictFindings, seenBy } from "../../../src/commands/check-containers.ts";
import { containerWith } from "../roles/cases.ts";

const at = (name: string, ipv4: string) =>
  containerWith({
    id: name.padEnd(64, "0"),
    name,
    attachments: [{ network: "bridge", ipv4, ipv6: undefined, mac: undefined }],
  });
const engine = (host: string, connected: boolean, lastError?: string) => ({
  host,
  connected,
  since: 0,
  lastError,
  apiVersion: undefined,
  engine: undefined,
  containers: 0,
});
const own = {
  directory: { containers: () => [at("a", "172.17.0.2")] },
  engines: [engine("unix:///run/docker.sock", false, "connect EACCES")],
};

t.test("what the guard sees counts where this user may not ask the engine", (t) => {
  const guard = {
    silentBecause: undefined,
    engines: [engine("unix:///run/docker.sock", true)],
    containers: [at("b", "172.17.0.3")],
  };
  const seen = seenBy(guard, own);
  t.match(seen.engines, [{ connected: true }]);
  t.same(
    seen.containers.map(({ name }) => name),
    ["b", "a"],
  );
  t.end();
});

t.test("without the guard, what this user sees counts", (t) => {
  const seen = seenBy({ silentBecause: "no such socket", engines: [], containers: [] }, own);
  t.match(seen.engines, [{ connected: false, lastError: "connect EACCES" }]);
  t.end();
});

t.test("two containers with one address are a failure that names both", (t) => {
  t.same(conflictFindings([at("a", "172.17.0.2"), at("b", "172.17.0.3")]), []);
  t.match(conflictFindings([at("a", "172.17.0.2"), at("b", "172.17.0.2")]), [
    {
      ok: false,
      text: /^a and b have the same address 172\.17\.0\.2, so none of them is served/,
      hint: /subnets/,
    },
  ]);
  t.end();
});
