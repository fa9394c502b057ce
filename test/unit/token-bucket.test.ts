import t from "tap";
import { TokenBucket } from "../../src/token-bucket.ts";

t.test("a bucket holds one second's worth, and refills at its rate", async (t) => {
  const bucket = new TokenBucket(10, 0);
  for (let nth = 0; nth < 10; nth++) {
    t.equal(bucket.delay(0), 0);
    bucket.take();
  }
  t.equal(bucket.delay(0), 100);
  t.equal(bucket.delay(100), 0);
  bucket.take();
  t.equal(bucket.delay(100), 100);
  for (let nth = 0; nth < 10; nth++) {
    t.equal(bucket.delay(60_000), 0, "after a minute it is full, and no more than full");
    bucket.take();
  }
  t.equal(bucket.delay(60_000), 100);
});

t.test("a bucket of less than one a second holds one", async (t) => {
  const bucket = new TokenBucket(0.5, 0);
  t.equal(bucket.delay(0), 0);
  bucket.take();
  t.equal(bucket.delay(0), 2_000);
});

t.test("a lower rate takes tokens away, and a higher one adds none at once", async (t) => {
  const bucket = new TokenBucket(10, 0);
  bucket.setRate(2, 0);
  bucket.take();
  bucket.take();
  t.equal(bucket.delay(0), 500);
  bucket.setRate(100, 0);
  t.equal(bucket.delay(0), 10);
  bucket.empty(0);
  t.equal(bucket.delay(0), 10);
});

t.test("a clock that is set back neither fills nor empties a bucket", async (t) => {
  const bucket = new TokenBucket(10, 1_000);
  bucket.empty(1_000);
  t.equal(bucket.delay(0), 100);
  t.equal(bucket.delay(100), 0);
});

const day = 24 * 60 * 60_000;

t.test("a clock that goes back does not fill a bucket, and does not stop it from filling", async (t) => {
  const bucket = new TokenBucket(2, 10 * day);
  bucket.empty(10 * day);
  t.equal(bucket.delay(9 * day), 500, "an interval, not a day");
  t.equal(bucket.delay(9 * day + 500), 0);
  bucket.empty(9 * day);
  t.equal(bucket.delay(11 * day), 0);
});
