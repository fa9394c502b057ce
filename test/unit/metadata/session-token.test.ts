import t from "tap";
import { MetadataSessionToken, type TokenAnswer } from "../../../src/metadata/session-token.ts";

const hour = 3_600_000;

/** A token of which the service's answers are settled by the test. */
function fixture() {
  const clock = { now: 0 };
  const answers: PromiseWithResolvers<TokenAnswer>[] = [];
  const request = () => {
    const answer = Promise.withResolvers<TokenAnswer>();
    answers.push(answer);
    return answer.promise;
  };
  const token = new MetadataSessionToken(() => clock.now);
  const answer = (value: Partial<TokenAnswer>) =>
    answers.at(-1)?.resolve({ status: 200, body: "", ttlHeader: "21600", ...value });
  return { clock, token, request, answers, answer };
}

t.test("concurrent callers share one token request", async (t) => {
  const { token, request, answers, answer } = fixture();
  const both = [token.renew(request), token.renew(request)];
  answer({ body: "one" });
  t.same(await Promise.all(both), ["one", "one"]);
  t.equal(answers.length, 1);
  t.equal(token.valid(request), "one");
});

t.test(
  "a token is renewed in the background five minutes before it expires, and not used after",
  async (t) => {
    const { clock, token, request, answers, answer } = fixture();
    const first = token.renew(request);
    answer({ body: "one" });
    await first;
    clock.now = 6 * hour - 5 * 60_000 - 1;
    t.equal(token.valid(request), "one");
    t.equal(answers.length, 1);
    clock.now += 1;
    t.equal(token.valid(request), "one", "it still serves");
    t.equal(answers.length, 2);
    answers.at(-1)?.reject(new Error("made to fail"));
    await new Promise(setImmediate);
    t.equal(token.valid(request), "one", "a renewal that fails is no loss");
    clock.now = 6 * hour;
    t.equal(token.valid(request), undefined);
  },
);

t.test("a shorter lifetime than requested counts, a longer one does not", async (t) => {
  const { clock, token, request, answer } = fixture();
  let renewal = token.renew(request);
  answer({ body: "one", ttlHeader: "60" });
  await renewal;
  clock.now = 60_000;
  t.equal(token.valid(request), undefined);
  renewal = token.renew(request);
  answer({ body: "two", ttlHeader: "99999" });
  await renewal;
  clock.now += 6 * hour;
  t.equal(token.valid(request), undefined);
});

t.test("a rejected token is dropped, unless it was replaced already", async (t) => {
  const { token, request, answer } = fixture();
  const renewal = token.renew(request);
  answer({ body: "two" });
  await renewal;
  token.rejected("one");
  t.equal(token.valid(request), "two");
  token.rejected("two");
  t.equal(token.valid(request), undefined);
});

for (const status of [404, 405]) {
  t.test(`${status}: the service issues no tokens, which is remembered for a minute`, async (t) => {
    const { clock, token, request, answer } = fixture();
    const renewal = token.renew(request);
    answer({ status });
    t.equal(await renewal, "");
    clock.now = 59_999;
    t.equal(token.valid(request), "");
    clock.now = 60_000;
    t.equal(token.valid(request), undefined);
  });
}
