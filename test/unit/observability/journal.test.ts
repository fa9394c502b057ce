import { once } from "node:events";
import { closeSync, fstatSync, openSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import t from "tap";
import { isJournal, isSocket, openLog, withErrorPriority } from "../../../src/observability/journal.ts";
import { hostileTexts, unsafe } from "../../support/hostile-texts.ts";

/** What a log of a service under systemd writes. */
function written(act: (log: ReturnType<typeof openLog>) => void, level: "debug" | "info" = "info"): string[] {
  const lines: string[] = [];
  act(openLog({ level, priorities: true, write: (line) => lines.push(line) }));
  return lines;
}

for (const hostile of hostileTexts) {
  t.test(`one event is one line, with ${hostile.replace(/[^ -~]/g, "?")} in it`, (t) => {
    const lines = written((log) =>
      log.info({ container: hostile, list: [hostile], err: new Error(hostile) }, `refused: ${hostile}`),
    );
    t.equal(lines.length, 1);
    const [line = ""] = lines;
    t.notMatch(line, unsafe);
    t.equal(line.split("\n").length, 2, "the line's own end, and nothing after it");
    t.match(line, /^<6>refused: .* container=.* list=.* error=/);
    t.end();
  });
}

for (const [method, priority] of [
  ["debug", 7],
  ["info", 6],
  ["warn", 4],
  ["error", 3],
] as const) {
  t.test(`${method} has priority ${priority} in the journal`, (t) => {
    t.same(
      written((log) => log[method]({ code: "bug" }, "something happened"), "debug"),
      [`<${priority}>something happened code=bug\n`],
    );
    t.end();
  });
}

t.test("each line of a report has the priority of errors", (t) => {
  t.equal(withErrorPriority("first\n  second"), "<3>first\n<3>  second");
  t.end();
});

t.test("debug is not written at level info", (t) => {
  t.same(
    written((log) => log.debug({}, "granted")),
    [],
  );
  t.end();
});

const values: readonly [name: string, value: unknown, text: string][] = [
  ["a number", 1.5, "1.5"],
  ["a boolean", true, "true"],
  ["a date", new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ["a big integer", { big: 10n }, String.raw`"{\"big\":\"10\"}"`],
  ["a list", ["a"], String.raw`"[\"a\"]"`],
  [
    "a secret in an object",
    { deep: [{ token: "t" }] },
    String.raw`"{\"deep\":[{\"token\":\"[redacted]\"}]}"`,
  ],
];

for (const [name, value, text] of values) {
  t.test(`${name} is written as ${text}`, (t) => {
    t.same(
      written((log) => log.info({ value }, "seen")),
      [`<6>seen value=${text}\n`],
    );
    t.end();
  });
}

t.test("a value that has no JSON form neither throws nor loses the line", (t) => {
  const circle: { self?: unknown } = {};
  circle.self = circle;
  const [line] = written((log) => log.info({ circle, nothing: undefined, act: () => 1 }, "seen"));
  t.match(line, /^<6>seen circle="\[.*circular.*\]"\n$/i);
  t.end();
});

t.test("an error is written with its causes, even if they are a circle", (t) => {
  const inner = new Error("connect ENOENT");
  const outer = new Error("listing containers", { cause: inner });
  t.same(
    written((log) => log.error({ code: "bug", err: outer }, "failed")),
    ['<3>failed code=bug error="listing containers: connect ENOENT"\n'],
  );
  inner.cause = outer;
  t.same(
    written((log) => log.error({ code: "bug", err: outer }, "failed")),
    ['<3>failed code=bug error="listing containers: connect ENOENT"\n'],
  );
  t.end();
});

t.test("a secret never reaches a line", (t) => {
  t.same(
    written((log) => log.info({ sessionToken: "s", keys: { secretAccessKey: "s" } }, "granted")),
    [`${String.raw`<6>granted sessionToken=[redacted] keys="{\"secretAccessKey\":\"[redacted]\"}"`}\n`],
  );
  t.end();
});

t.test("the journal is the descriptor that systemd names", (t) => {
  const fd = openSync("/dev/null", "r");
  const { dev, ino } = fstatSync(fd);
  t.equal(isJournal(fd, `${dev}:${ino}`), true);
  t.equal(isJournal(fd, "1:2"), false);
  t.equal(isJournal(fd, undefined), false);
  closeSync(fd);
  t.equal(isJournal(fd, `${dev}:${ino}`), false, "closed");
  t.end();
});

t.test("a stream to the journal is a socket", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const [[accepted]] = await Promise.all([
    once(server, "connection"),
    new Promise((resolve) => {
      const { port } = server.address() as AddressInfo; // a TCP server's address is never a string
      const socket = connect(port, "127.0.0.1", () => resolve(socket.end()));
    }),
  ]);
  t.equal(isSocket(accepted._handle.fd), true);
  const file = openSync("/dev/null", "r");
  t.equal(isSocket(file), false);
  closeSync(file);
  t.equal(isSocket(file), false, "closed");
  accepted.destroy();
  server.close();
});

t.test("a thrown object without a prototype is logged", (t) => {
  t.match(
    written((log) => log.warn({ code: "engine-lost", err: Object.create(null) }, "failed")),
    [/^<4>failed code=engine-lost error=/],
  );
  t.end();
});

t.test("a field's text cannot begin another field", (t) => {
  const lines: string[] = [];
  const log = openLog({ level: "info", priorities: false, write: (line) => lines.push(line) });
  log.info({ container: "web role=admin", image: 'a"b', user: "a\u202eb", plain: "app:1.2" }, "refused");
  t.same(lines, ['refused container="web role=admin" image="a\\"b" user="a\\u{202e}b" plain=app:1.2\n']);
  t.end();
});
