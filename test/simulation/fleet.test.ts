import t from "tap";
import { type FleetOptions, simulateFleet } from "./fleet.ts";

// Some seconds of work; a machine that is busy with other tests may take much longer.
t.setTimeout(180_000);

const fleet: FleetOptions = {
  seed: 1,
  hosts: 10_000,
  rolesPerHost: 4,
  bootMs: 90_000,
  askAfterMs: 1_000,
  startSpreadMs: 0,
  quota: 600,
  minutes: 45,
};

t.test(
  "10,000 hosts that come up within 90 s stay below the account's quota, then and ever after",
  async (t) => {
    const result = await simulateFleet(fleet);
    t.comment(JSON.stringify(result));
    t.equal(result.throttled, 0);
    t.equal(result.unavailable, 0);
    t.ok(result.peakAtStart < 600);
    t.ok(result.steadyPeak < 100);
  },
);

t.test("hosts that come up in the same second do so with a start spread of 120 s", async (t) => {
  // A tenth of the hosts and of the quota, to be done in a second.
  const result = await simulateFleet({
    ...fleet,
    hosts: 1_000,
    quota: 60,
    bootMs: 1_000,
    startSpreadMs: 120_000,
    askAfterMs: 180_000,
  });
  t.comment(JSON.stringify(result));
  t.equal(result.throttled, 0);
  t.ok(result.peakAtStart <= 60);
});

t.test(
  "where all ask in the same second, the brokers slow down and all are served as fast as the quota lets them",
  async (t) => {
    const result = await simulateFleet({ ...fleet, hosts: 500, quota: 30, bootMs: 1_000 });
    t.comment(JSON.stringify(result));
    t.ok(result.throttled > 0);
    const quickest = (500 * 4 * 1_000) / 30;
    t.ok(
      result.allServedMs < 1.5 * quickest,
      `${(result.allServedMs / quickest).toFixed(2)} times the quickest possible`,
    );
  },
);
