import { readFile } from "node:fs/promises";
import t from "tap";
import { badDay, simulateDay } from "./day.ts";
import { drawDay } from "./plot.ts";

// Some seconds of work; a machine that is busy with other tests may take much longer.
t.setTimeout(180_000);

t.test("24 hours, 1,000 containers, STS down for 20 minutes every 4 hours: nobody notices", async (t) => {
  const { day, svg } = await drawDay(badDay);
  t.comment(
    `${day.asked} requests, ${day.errors} errors; ${day.calls} calls, ${day.failed} failed, ${day.throttled} throttled; ` +
      `mean ${day.mean.toFixed(1)} and peak ${day.peak} a minute; smallest remaining life ` +
      `${(day.smallestRemainingMs / 60_000).toFixed(1)} min, without outages ${(day.smallestRemainingInPeaceMs / 60_000).toFixed(1)} min`,
  );
  t.equal(day.errors, 0);
  t.ok(day.asked > 450_000);
  t.ok(day.smallestRemainingMs > 5 * 60_000);
  t.ok(day.smallestRemainingInPeaceMs >= 25 * 60_000);
  t.ok(day.peak <= 3 * day.mean);
  t.ok(day.throttled > 0, "the quota was felt");
  t.ok(day.logLines.length < 60, "a day's log is read in a minute");
  const drawn = await readFile(new URL("../../docs/credentials-day.svg", import.meta.url), "utf8");
  t.ok(drawn === svg, "docs/credentials-day.svg shows this day; node test/simulation/draw.ts draws it anew");
});

t.test("outages of 25 minutes are borne by hourly sessions too; it is not luck with one seed", async (t) => {
  for (const seed of [2, 3]) {
    const day = await simulateDay({ ...badDay, seed, hours: 9, containers: 100, outageMs: 25 * 60_000 });
    t.equal(day.errors, 0, `seed ${seed}: least ${(day.smallestRemainingMs / 60_000).toFixed(1)} min`);
  }
});
