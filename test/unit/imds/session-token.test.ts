import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import t from "tap";
import { OperatorError } from "../../../src/errors.ts";
import { readOrCreateKey, sessionTokens } from "../../../src/imds/session-token.ts";

const key = Buffer.alloc(32, 7);
const mine = "a".repeat(64);
const start = Date.UTC(2026, 0, 1);

t.test("a token has the form of the service's own", async (t) => {
  const token = sessionTokens({ key, now: () => start }).issue(mine, 21_600);
  t.match(token, /^AQA[A-Za-z0-9_-]{51}==$/);
  t.equal(token.length, 56);
});

t.test("a token counts down and expires", async (t) => {
  let now = start;
  const tokens = sessionTokens({ key, now: () => now });
  const token = tokens.issue(mine, 300);
  for (const [after, left] of [
    [0, 300],
    [999, 300],
    [1000, 299],
    [299_000, 1],
    [299_999, 1],
    [300_000, undefined],
    [900_000, undefined],
  ] as const) {
    now = start + after;
    await t.test(`after ${after} ms it has ${left ?? "no"} seconds left`, async (t) =>
      t.equal(tokens.secondsLeft(token, mine), left),
    );
  }
});

t.test("a clock that is set back does not extend a token beyond the longest TTL", async (t) => {
  let now = start;
  const tokens = sessionTokens({ key, now: () => now });
  const token = tokens.issue(mine, 21_600);
  now = start - 86_400_000;
  t.equal(tokens.secondsLeft(token, mine), undefined, "by a day");
  now = start - 1_000;
  t.equal(
    tokens.secondsLeft(token, mine),
    undefined,
    "by a second: a client gets 401 and asks for a new one",
  );
});

t.test("a token is invalid for another container, with another key, or in another spelling", async (t) => {
  const tokens = sessionTokens({ key, now: () => start });
  const token = tokens.issue(mine, 300);
  t.equal(tokens.secondsLeft(token, mine), 300);
  t.equal(tokens.secondsLeft(token, "b".repeat(64)), undefined, "another container");
  t.equal(tokens.secondsLeft(token, ""), undefined, "no container");
  t.equal(
    sessionTokens({ key: Buffer.alloc(32, 8), now: () => start }).secondsLeft(token, mine),
    undefined,
    "another key",
  );
  const wrong: readonly [string, string][] = [
    ["empty", ""],
    ["without padding", token.slice(0, 54)],
    ["preceded by a space", ` ${token}`],
    ["followed by a newline", `${token}\n`],
    ["repeated", token + token],
    [
      "in the standard alphabet",
      token
        .replaceAll("-", "+")
        .replaceAll("_", "/")
        .replace(/[A-Za-z0-9](?===$)/, "/"),
    ],
    ["not ASCII", `${token.slice(0, 55)}\u00e9`],
    ["very long", "A".repeat(100_000)],
    ["all zeros", `AQA${"A".repeat(51)}==`],
  ];
  for (const [name, text] of wrong)
    await t.test(`a token that is ${name} is invalid`, async (t) =>
      t.equal(tokens.secondsLeft(text, mine), undefined),
    );
  // 54th character: four of its bits are not part of the 40 bytes.
  const last = token.charAt(53);
  for (const other of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    if (other !== last)
      t.equal(tokens.secondsLeft(`${token.slice(0, 53)}${other}==`, mine), undefined, `ends in ${other}`);
});

t.test("no bit of a token can be changed", async (t) => {
  const tokens = sessionTokens({ key, now: () => start });
  const bytes = Buffer.from(tokens.issue(mine, 300), "base64url");
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    t.equal(tokens.secondsLeft(`${changed.toString("base64url")}==`, mine), undefined, `bit ${bit}`);
  }
});

t.test("the key is created once, for its owner alone, and read again", async (t) => {
  const path = `${t.testdir()}/token.key`;
  const first = await readOrCreateKey(path);
  t.equal(first.length, 32);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.same(await readOrCreateKey(path), first);
  t.same(await readdir(dirname(path)), ["token.key"], "no draft is left");
});

t.test("concurrent starts use one key", async (t) => {
  const path = `${t.testdir()}/token.key`;
  const keys = await Promise.all(Array.from({ length: 20 }, () => readOrCreateKey(path)));
  t.equal(new Set(keys.map((each) => each.toString("hex"))).size, 1);
  t.same(await readdir(dirname(path)), ["token.key"]);
});

t.test("an unfit key file is refused, with a hint", async (t) => {
  const folder = t.testdir();
  const cases: readonly [string, (path: string) => Promise<unknown>, RegExp][] = [
    ["short", (path) => writeFile(path, randomBytes(31), { mode: 0o600 }), /31 bytes, not 32/],
    ["long", (path) => writeFile(path, randomBytes(33), { mode: 0o600 }), /33 bytes/],
    ["empty", (path) => writeFile(path, "", { mode: 0o600 }), /0 bytes/],
    ["readable", (path) => writeFile(path, randomBytes(32)).then(() => chmod(path, 0o640)), /mode is 0640/],
    ["folder", (path) => mkdir(path, { mode: 0o700 }), /not a regular file/],
    ["link", (path) => symlink(`${folder}/short`, path), /symbolic link/],
  ];
  for (const [name, make, expected] of cases)
    await t.test(`a key file: ${name}`, async (t) => {
      await make(`${folder}/${name}`);
      const error = await readOrCreateKey(`${folder}/${name}`).catch((caught: unknown) => caught);
      t.match(error, { message: expected, exitCode: 78, hint: /Delete it/ });
      t.type(error, OperatorError);
    });
  await t.rejects(readOrCreateKey(`${folder}/none/token.key`), {
    message: /reading the session token key/,
    exitCode: 69,
  });
});
