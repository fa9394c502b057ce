import t from "tap";
import { explain, OperatorError, report } from "../../src/errors.ts";
import { unsafe } from "../support/hostile-texts.ts";

t.test("a report of a failure has our own lines at the margin, and nothing else there", (t) => {
  const text = report(
    new OperatorError("asking web\naliasToARN.db: gone\u001b[2J", {
      exitCode: 69,
      hint: "Ask\u0085again\nMAINPID=1",
      problems: [{ where: "web\n  listen", message: "is\u202e wrong", hint: "" }],
      cause: new Error("the engine says\r\nhello\u2028there"),
    }),
  );
  t.notMatch(text, unsafe);
  t.same(
    text.split("\n").map((line) => line.slice(0, 6)),
    ["asking", "      ", "      ", "  web", "      ", "Ask\\u{", "      "],
  );
  t.end();
});

const inner = new Error("connect ENOENT");
const circle = new Error("a");
circle.cause = new Error("b", { cause: circle });

const chains: readonly [name: string, error: unknown, text: string][] = [
  ["an error and its cause", new Error("listing", { cause: inner }), "listing: connect ENOENT"],
  [
    "a cause that the message repeats",
    new Error("listing: connect ENOENT", { cause: inner }),
    "listing: connect ENOENT",
  ],
  ["an error without a message", new TypeError(), "TypeError"],
  ["a cause that is no error", new Error("listing", { cause: 5 }), "listing: 5"],
  ["causes that are a circle", circle, "a: b"],
];

for (const [name, error, text] of chains) {
  t.test(`${name} is explained as "${text}"`, (t) => {
    t.equal(explain(error), text);
    t.end();
  });
}

for (const [message, without] of [
  [
    "self-signed certificate; if the root CA is installed locally, try running Node.js with --use-system-ca",
    "self-signed certificate",
  ],
  ["connect ECONNREFUSED 127.0.0.1:9", "connect ECONNREFUSED 127.0.0.1:9"],
] as const) {
  t.test(`"${message}" is printed without advice about flags of Node`, async (t) => {
    t.equal(explain(new Error(message)), without);
  });
}
