import t from "tap";
import {
  parseTemplate,
  renderSessionName,
  renderTagValue,
  shortId,
  type TemplateValues,
  templateProblem,
} from "../../../src/roles/template.ts";

const values: TemplateValues = {
  name: "web-1",
  id: "0123456789ab",
  image: "registry.example.com:5000/team/web:1.2@sha256:ab",
  composeProject: "shop",
  composeService: "web",
  alias: "web",
  instanceId: "i-0123456789abcdef0",
};

for (const [text, problem] of [
  ["{name}-{id}", undefined],
  ["plain", undefined],
  ["{name}{id}{image}{composeProject}{composeService}{alias}{instanceId}", undefined],
  ["{Name}", "found {Name}"],
  ["{}", "found {}"],
  ["{ name }", "found { name }"],
  ["{constructor}", "found {constructor}"],
  ["{name", "found a { that is not closed"],
  ["name}", "found a } without a {"],
  ["{{name}}", "not closed"],
  ["{name{id}", "not closed"],
] as const) {
  t.test(`the template ${text} ${problem === undefined ? "is valid" : `has a problem: ${problem}`}`, (t) => {
    const found = templateProblem(text);
    if (problem === undefined) t.equal(found, undefined);
    else t.match(found, problem);
    t.end();
  });
}

t.test("parsing an invalid template throws", (t) => {
  t.throws(() => parseTemplate("{nobody}"), /reading the template \{nobody\}/);
  t.end();
});

const long = { ...values, name: "n".repeat(100) };
for (const [text, input, expected] of [
  ["{name}-{id}", values, "web-1-0123456789ab"],
  ["{image}", values, "registry.example.com-5000-team-web-1.2@sha256-ab"],
  ["{composeProject}.{composeService}@{instanceId}", values, "shop.web@i-0123456789abcdef0"],
  ["{name}-{id}", long, `${"n".repeat(51)}-0123456789ab`],
  ["{id}-{name}", long, `0123456789ab-${"n".repeat(51)}`],
  [
    "{name}-{composeProject}-{id}",
    { ...long, composeProject: "p".repeat(30) },
    `${"n".repeat(25)}-${"p".repeat(25)}-0123456789ab`,
  ],
  [`${"x".repeat(80)}{id}`, values, `${"x".repeat(52)}0123456789ab`],
  ["{id}{id}{id}{id}{id}{id}", values, /^[0-9a-b]{64}$/],
  [
    "{name}-{id}",
    { ...values, id: "static:fd00:1111:2222:3333:4444:5555:6666:7777", name: "n".repeat(64) },
    /^n+-static-fd00-1111-2222-3333-4444-5555-6666-7777$/,
  ],
  ["{composeService}", { ...values, composeService: "" }, "0123456789ab"],
  ["{composeService}", { ...values, composeService: "w" }, "w-0123456789ab"],
  ["{composeService}", { ...values, composeService: "ab" }, "ab"],
  ["{name}", { ...values, name: "a/b c\u0000d😀e" }, "a-b-c-d-e"],
  ["{name}-{id}", { ...values, name: "{id}{alias}" }, "-id--alias--0123456789ab"],
  ["{name}", { ...values, name: "aws:root" }, "aws-root"],
  ["{name}", { ...values, name: "\u202e$&$1" }, "---1".padStart(5, "-")],
] as const) {
  t.test(`the session name ${text.slice(0, 60)} is rendered as ${expected}`, (t) => {
    const name = renderSessionName(parseTemplate(text), input);
    if (typeof expected === "string") t.equal(name, expected);
    else t.match(name, expected);
    t.match(name, /^[\w+=,.@-]{2,64}$/, "STS accepts it");
    t.end();
  });
}

t.test("two containers with the same long name differ by id", (t) => {
  const template = parseTemplate("{name}-{image}-{id}");
  const named = (id: string) => renderSessionName(template, { ...values, name: "n".repeat(128), id });
  t.not(named("aaaaaaaaaaaa"), named("bbbbbbbbbbbb"));
  t.match(named("aaaaaaaaaaaa"), /-aaaaaaaaaaaa$/);
  t.end();
});

t.test("a tag value keeps letters of all scripts and has at most 256 characters", (t) => {
  const template = parseTemplate("{name}");
  const tag = (name: string) => renderTagValue(template, { ...values, name });
  t.equal(tag("Grüße/東京:1 @x"), "Grüße/東京:1 @x");
  t.equal(tag(""), "", "it may be empty");
  t.equal(tag("a\u0000b\u009bc*d"), "a-b-c-d");
  t.equal(tag("\ud800x"), "-x", "an unpaired surrogate is not a letter");
  t.equal(tag("x".repeat(10_000_000)).length, 256);
  t.match(
    renderTagValue(parseTemplate("{image} {id}"), { ...values, image: "i".repeat(999) }),
    /^i{243} 0123456789ab$/,
  );
  t.match(tag("𠀀".repeat(300)), /^𠀀{127,128}-?$/u, "no half of a surrogate pair at the end");
  t.end();
});

t.test("an id is shortened as in docker ps", (t) => {
  t.equal(shortId(`0123456789ab${"c".repeat(52)}`), "0123456789ab");
  t.equal(shortId("static:10.0.3.5"), "static:10.0.3.5");
  t.end();
});
