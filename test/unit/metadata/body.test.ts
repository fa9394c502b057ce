import { once } from "node:events";
import http, { type IncomingMessage } from "node:http";
import t, { type Test } from "tap";
import { drain, readBody } from "../../../src/metadata/body.ts";
import { type Answer, metadataService } from "./fixture.ts";

async function answerOf(t: Test, page: Answer): Promise<IncomingMessage> {
  const { endpoint } = await metadataService(t, { page });
  const [answer]: IncomingMessage[] = await once(http.get(endpoint, { agent: false }), "response");
  if (answer === undefined) throw new Error("no answer");
  return answer;
}

t.test("a body of exactly the limit is read whole", async (t) => {
  const answer = await answerOf(t, (_, res) => res.write("ab", () => res.end("cd")));
  t.equal(String(await readBody(answer, 4, 2_000)), "abcd");
});

for (const [what, page, message] of [
  [
    "declares too much",
    (_, res) => res.writeHead(200, { "Content-Length": 5 }).write("a"),
    /more than 4 bytes/,
  ],
  ["sends too much", (_, res) => res.end("abcde"), /more than 4 bytes/],
  [
    "is cut short",
    (_, res) => res.writeHead(200, { "Content-Length": 4 }).write("a", () => res.destroy()),
    /cut short/,
  ],
  ["stops", (_, res) => res.writeHead(200, { "Content-Length": 4 }).write("a"), /not complete after 100 ms/],
] satisfies [string, Answer, RegExp][]) {
  t.test(`a body that ${what} is rejected and its connection closed`, async (t) => {
    const answer = await answerOf(t, page);
    await t.rejects(readBody(answer, 4, 100), { kind: "bad-answer", message });
    t.equal(answer.destroyed, true);
  });
}

t.test("drain reads a body to its end", async (t) => {
  const answer = await answerOf(t, (_, res) => res.end("x".repeat(1_000)));
  drain(answer);
  await once(answer, "end");
  t.equal(answer.complete, true);
});
