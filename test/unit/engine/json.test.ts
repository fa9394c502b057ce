import t from "tap";
import { address, JsonShapeError, list, mac, object, string } from "../../../src/engine/json.ts";

const wrong = [
  ["an object", () => object([], "Config"), "Config: expected an object, got a list"],
  ["an object for null", () => object(null, "Config"), "Config: expected an object, got null"],
  ["a list", () => list({}, "Config.Env"), "Config.Env: expected a list, got object"],
  ["a string", () => string(7, "Name"), "Name: expected a string, got number"],
] as const;
for (const [what, read, message] of wrong) {
  t.test(`a value that is not ${what}: ${message}`, async (t) => {
    const error = t.throws(read, { message: `reading the engine's answer: ${message}` });
    t.ok(error instanceof JsonShapeError);
  });
}

t.test("an error has the value's type and never the value", async (t) => {
  t.throws(() => object("AWS_SECRET_ACCESS_KEY=x", "Config"), { message: /got string$/ });
});

const addresses = [
  ["172.17.0.2", "172.17.0.2"],
  ["172.17.0.2/16", "172.17.0.2"],
  ["FD00:1::2/64", "fd00:1::2"],
  ["::ffff:172.17.0.2", "172.17.0.2"],
  ["", undefined],
  ["0.0.0.0", undefined],
  ["0.0.0.0/0", undefined],
  ["::", undefined],
  ["::/0", undefined],
  ["invalid IP", undefined],
  ["010.0.0.2", undefined],
  ["/16", undefined],
  [null, undefined],
  [undefined, undefined],
  [2852039166, undefined],
] as const;
for (const [value, expected] of addresses) {
  t.test(`an engine's address ${JSON.stringify(value)} is ${expected ?? "none"}`, async (t) => {
    t.equal(address(value), expected);
  });
}

const macs = [
  ["02:42:ac:11:00:02", "02:42:ac:11:00:02"],
  ["02:42:AC:11:00:0F", "02:42:ac:11:00:0f"],
  ["", undefined],
  ["00:00:00:00:00:00", undefined],
  ["02-42-ac-11-00-02", undefined],
  ["0242.ac11.0002", undefined],
  ["02:42:ac:11:00", undefined],
  ["02:42:ac:11:00:02\n", undefined],
  ["02:42:ac:11:00:02:00:00", undefined],
  ["02:42:ac:11:00:02 } ; flush ruleset", undefined],
  [null, undefined],
  [undefined, undefined],
  [2, undefined],
] as const;
for (const [value, expected] of macs) {
  t.test(`an engine's hardware address ${JSON.stringify(value)} is ${expected ?? "none"}`, async (t) => {
    t.equal(mac(value), expected);
  });
}
