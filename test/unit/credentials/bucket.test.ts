import t from "tap";
import { TokenBucket } from "../../../src/credentials/bucket.ts";

const day = 24 * 60 * 60_000;

t.test("a clock that goes back does not fill a bucket, and does not stop it from filling", async (t) => {
  const bucket = new TokenBucket(2, 10 * day);
  bucket.empty(10 * day);
  t.equal(bucket.delay(9 * day), 500, "an interval, not a day");
  t.equal(bucket.delay(9 * day + 500), 0);
  bucket.empty(9 * day);
  t.equal(bucket.delay(11 * day), 0);
});
