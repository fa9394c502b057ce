import t from "tap";
import { MetadataError } from "../../../src/metadata/error.ts";
import { Reachability } from "../../../src/metadata/reachability.ts";

function fixture() {
  let time = 1_000;
  const reachability = new Reachability(() => time);
  const pass = (ms: number) => {
    time += ms;
  };
  return { reachability, pass };
}

t.test("nothing is known before the first exchange", (t) => {
  t.same(fixture().reachability.state(), { failure: undefined, quietMs: undefined });
  t.end();
});

t.test("failures in a row are counted from the first one, and end with an answer", (t) => {
  const { reachability, pass } = fixture();
  reachability.failed(new MetadataError("no-answer", "reset"));
  pass(5_000);
  const error = new MetadataError("no-answer", "timed out", { isLate: true });
  reachability.failed(error);
  pass(1_000);
  t.same(reachability.state(), {
    failure: { exchanges: 2, forMs: 6_000, error },
    quietMs: 1_000,
  });
  reachability.answered("/latest/user-data", 404, false);
  t.same(reachability.state(), { failure: undefined, quietMs: 0 });
  t.end();
});

for (const { status, isOwn, fails } of [
  { status: 200, isOwn: true, fails: false },
  { status: 401, isOwn: true, fails: false },
  { status: 404, isOwn: true, fails: false },
  { status: 403, isOwn: true, fails: true },
  { status: 429, isOwn: true, fails: true },
  { status: 500, isOwn: true, fails: true },
  { status: 403, isOwn: false, fails: false },
  { status: 500, isOwn: false, fails: false },
])
  t.test(`${status} to ${isOwn ? "the host" : "a container"} is ${fails ? "a failure" : "none"}`, (t) => {
    const { reachability } = fixture();
    reachability.answered("/latest/api/token", status, isOwn);
    t.equal(reachability.state().failure?.error.status, fails ? status : undefined);
    t.end();
  });
