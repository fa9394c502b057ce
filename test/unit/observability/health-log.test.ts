import t from "tap";
import { HealthLog } from "../../../src/observability/health-log.ts";

function fixture() {
  const lines: string[] = [];
  const write = (level: string) => (fields: object, message: string) =>
    void lines.push(`${level}: ${message} ${JSON.stringify(fields)}`);
  const log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  return { health: new HealthLog(log), taken: () => lines.splice(0) };
}
const firewall = { part: "firewall", message: "rules NOT IN FORCE", hint: "Install them." } as const;
const container = (id: string) => ({ id, name: `c${id}`, message: "has no credentials", hint: "" });

t.test("a part that fails is logged once with its cure, and once when it is well again", (t) => {
  const { health, taken } = fixture();
  for (let round = 0; round < 3; round++) health.note({ problems: [firewall] }, []);
  t.same(taken(), [
    'error: unhealthy: rules NOT IN FORCE {"code":"unhealthy","part":"firewall","cure":"Install them."}',
  ]);
  for (let round = 0; round < 3; round++) health.note({ problems: [] }, []);
  t.same(taken(), ['info: healthy again {"part":"firewall"}']);
  t.end();
});

t.test("what is logged where it arises is not logged twice", (t) => {
  const { health, taken } = fixture();
  health.note({ problems: [{ part: "engine", message: "away", hint: "" }] }, []);
  t.same(taken(), []);
  t.end();
});

t.test("each container that is not served has a line, and an outage of all has few", (t) => {
  const { health, taken } = fixture();
  for (let round = 0; round < 3; round++) health.note({ problems: [] }, [container("a")]);
  t.same(taken(), [
    'error: not served: the container has no credentials {"code":"not-served","container":"ca","id":"a"}',
  ]);
  const many = Array.from({ length: 500 }, (_, index) => container(`b${index}`));
  health.note({ problems: [] }, many);
  const lines = taken();
  t.equal(lines.length, 22);
  t.match(lines[20], /more containers.*"containers":480/);
  t.match(lines[21], /^info: no longer .*"ca"/);
  health.note({ problems: [] }, []);
  t.match(taken(), [/^info: no longer .*"containers":500/]);
  t.end();
});
