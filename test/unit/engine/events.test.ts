import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { eventFilters, lines, readEvent } from "../../../src/engine/events.ts";

const fixtures = new URL("../../fixtures/engine/", import.meta.url);
const engines = readdirSync(fixtures).filter((name) => !name.endsWith(".md"));

function recorded(engine: string, idFile: string) {
  const inspect = JSON.parse(readFileSync(new URL(`${engine}/${idFile}.json`, fixtures), "utf8"));
  const all = readFileSync(new URL(`${engine}/events.ndjson`, fixtures), "utf8")
    .split("\n")
    .filter(Boolean);
  return all.map(readEvent).filter((event) => event?.id === inspect.Id);
}

for (const engine of engines) {
  const isPodman = engine.startsWith("podman");

  t.test(`${engine}: the life of a container is read from its events`, async (t) => {
    const events = recorded(engine, "inspect-running");
    const kinds = events.map((event) => event?.kind);
    t.equal(kinds[0], "created");
    t.equal(kinds.at(-1), "removed");
    t.ok(kinds.includes("connected") && kinds.includes("disconnected") && kinds.includes("changed"));
    t.ok(kinds.indexOf("ended") < kinds.indexOf("removed"));
    if (!isPodman)
      t.ok(kinds.indexOf("connected") < kinds.indexOf("changed"), "its network comes before its start");
    for (const event of events)
      t.ok(event !== undefined && event.at > 1.7e12 && event.at < 4e12, "in milliseconds");
  });

  t.test(`${engine}: a disconnected network has its name if the engine sends it`, async (t) => {
    const left = recorded(engine, "inspect-running").find((event) => event?.kind === "disconnected");
    t.equal(left?.network?.name, engine === "podman-4.3" ? undefined : "second");
  });

  t.test(`${engine}: a new network is read`, async (t) => {
    const text = readFileSync(new URL(`${engine}/events.ndjson`, fixtures), "utf8");
    const created = text
      .split("\n")
      .filter(Boolean)
      .map(readEvent)
      .filter((event) => event?.kind === "network-created");
    // Podman sends this event since 5.4.
    t.equal(
      created.some((event) => event?.network?.name === "app_default"),
      engine !== "podman-4.3",
    );
  });
}

t.test("the requested events are the ones that readEvent knows", async (t) => {
  const actions = [
    "create",
    "init",
    "start",
    "die",
    "died",
    "destroy",
    "remove",
    "rename",
    "update",
    "unpause",
  ];
  t.same(eventFilters.event?.toSorted(), [...actions, "connect", "disconnect"].toSorted());
});

const ignored = [
  '{"Type":"image","Action":"pull","Actor":{"ID":"x"}}',
  '{"Type":"container","Action":"exec_start: sh","Actor":{"ID":"x"}}',
  '{"Type":"container"}',
  '{"Type":"container","Action":7,"Actor":{"ID":"x"}}',
  '{"Type":"network","Action":"prune","Actor":{"ID":"x"}}',
  "{}",
];
for (const line of ignored) t.test(`${line} is ignored`, async (t) => t.equal(readEvent(line), undefined));

const broken = [
  "null",
  "[]",
  '"x"',
  "{",
  '{"Type":"container","Action":"die"}',
  '{"Type":"container","Action":"die","Actor":null}',
  '{"Type":"container","Action":"die","Actor":{"ID":5}}',
  '{"Type":"network","Action":"connect","Actor":{"ID":"n","Attributes":[]}}',
];
for (const line of broken) t.test(`${line} is rejected`, async (t) => void t.throws(() => readEvent(line)));

async function* chunks(...texts: readonly string[]) {
  for (const text of texts) yield Buffer.from(text);
}

async function collect(stream: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const line of stream) found.push(line);
  return found;
}

t.test("lines are split wherever the chunks end, and an incomplete last line is dropped", async (t) => {
  t.same(await collect(lines(chunks('{"a":', "1}", '\n{"b"', ':2}\r\n\n{"c":3}\n{"d"'), 100)), [
    '{"a":1}',
    '{"b":2}',
    '{"c":3}',
  ]);
  const text = '{"ä":"€"}\n{"x":1}\n';
  const bytes = [...Buffer.from(text)].map((byte) => Buffer.from([byte]));
  t.same(
    await collect(
      lines(
        (async function* () {
          yield* bytes;
        })(),
        100,
      ),
    ),
    ['{"ä":"€"}', '{"x":1}'],
  );
});

t.test("a line without an end is not buffered forever", async (t) => {
  const endless = (async function* () {
    for (;;) yield Buffer.alloc(1000, 0x20);
  })();
  await t.rejects(collect(lines(endless, 10_000)), /a line of more than 10000 bytes/);
});

for (const action of ["destroy", "remove"])
  t.test(`a network's ${action} is its end`, async (t) => {
    const event = { Type: "network", Action: action, Actor: { ID: "n1", Attributes: { name: "shop" } } };
    t.match(readEvent(JSON.stringify(event)), {
      kind: "network-removed",
      id: "n1",
      network: { id: "n1", name: "shop" },
    });
  });
