import t from "tap";
import { Prefetching } from "../../../src/commands/prefetching.ts";
import type { Container } from "../../../src/containers/container.ts";
import { Callers } from "../../../src/imds/callers.ts";
import { rolePolicy } from "../../../src/roles/policy.ts";
import { asks, configWith, containerWith } from "../roles/cases.ts";

/** Prefetching with the test's configuration, and the calls that it made. */
function fixture() {
  const calls: string[] = [];
  let enabled = true;
  const prefetching = new Prefetching({
    callers: new Callers(rolePolicy(configWith({})), undefined),
    credentials: {
      prefetch: (holder) => void calls.push(`prefetch ${holder.slice(0, 4)}`),
      release: (holder) => void calls.push(`release ${holder.slice(0, 4)}`),
    },
    enabled: () => enabled,
  });
  const disable = () => {
    enabled = false;
  };
  return { prefetching, calls, disable };
}

const web = containerWith({ ...asks("web"), id: "web".padEnd(64, "0") });
const denied = containerWith({ id: "none".padEnd(64, "0") });
const started = (container: Container) => ({ kind: "started", container }) as const;

t.test("credentials are fetched for the containers that run at the start, and for later ones", (t) => {
  const { prefetching, calls } = fixture();
  prefetching.onChange(started(web));
  t.same(calls, [], "not before start()");
  prefetching.start([web]);
  prefetching.onChange(started(web));
  t.same(calls, ["prefetch web0", "prefetch web0"]);
  t.end();
});

t.test("credentials are released when the container is gone", (t) => {
  const { prefetching, calls } = fixture();
  prefetching.onChange({ kind: "gone", container: web });
  t.same(calls, ["release web0"]);
  t.end();
});

t.test("credentials are released when a reload leaves the container without a role", (t) => {
  const { prefetching, calls } = fixture();
  prefetching.decideAgain([denied]);
  t.same(calls, ["release none"]);
  t.end();
});

t.test("nothing is fetched where prefetch is off", (t) => {
  const { prefetching, calls, disable } = fixture();
  disable();
  prefetching.start([web]);
  t.same(calls, []);
  t.end();
});

t.test("nothing is fetched for a container without an address", (t) => {
  const { prefetching, calls } = fixture();
  prefetching.start([{ ...web, attachments: [] }]);
  t.same(calls, []);
  t.end();
});
