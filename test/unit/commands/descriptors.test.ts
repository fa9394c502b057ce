import t from "tap";
import { connectionLimits, openFilesLimit } from "../../../src/commands/descriptors.ts";

for (const [openFiles, own] of [
  [256, 128],
  [1_024, 512],
  [4_096, 512],
  [1_048_576, 512],
] as const) {
  t.test(`of ${openFiles} descriptors, ${own} are left for the proxy's own connections`, async (t) => {
    const totals = Object.values(connectionLimits(512, openFiles)).map(({ total }) => total);
    t.ok(
      totals.every((total) => total >= 1),
      String(totals),
    );
    t.equal(
      totals.reduce((sum, total) => sum + total, 0),
      openFiles - own,
    );
  });
}

t.test("unknown addresses have an eighth of the clients' descriptors at most", async (t) => {
  t.equal(connectionLimits(512, 4_096).strangers.total, (4_096 - 512) / 8);
  t.equal(connectionLimits(512, 1_048_576).strangers.total, 1_024);
});

t.test("this process may open files", async (t) => {
  t.ok((await openFilesLimit()) >= 1_024);
});
