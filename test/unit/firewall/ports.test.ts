import t from "tap";
import { portsInText } from "../../../src/firewall/ports.ts";

const cases: readonly {
  readonly is: string;
  readonly text: string;
  readonly ports: ReturnType<typeof portsInText>;
}[] = [
  {
    is: "an empty object",
    text: "{}",
    ports: { proxy: 18_000, credentials: undefined, metrics: undefined },
  },
  {
    is: "a broken alias beside valid ports",
    text: '{"listen":":19000","aliasToARN":{"db":"nonsense"},"containerCredentials":{"listen":"172.17.0.1:18008"},"metricsListen":":18009"}',
    ports: { proxy: 19_000, credentials: 18_008, metrics: 18_009 },
  },
  {
    is: "metrics on a named address",
    text: '{"metricsListen":"127.0.0.1:18009"}',
    ports: { proxy: 18_000, credentials: undefined, metrics: undefined },
  },
  {
    is: "invalid values",
    text: '{"listen":18001,"containerCredentials":"x","metricsListen":":70000"}',
    ports: { proxy: 18_000, credentials: undefined, metrics: undefined },
  },
  {
    is: "a byte order mark",
    text: '\uFEFF{"listen":":19000"}',
    ports: { proxy: 19_000, credentials: undefined, metrics: undefined },
  },
  { is: "a list", text: "[]", ports: undefined },
  { is: "invalid JSON", text: '{"listen":":19000",}', ports: undefined },
  { is: "an empty text", text: "", ports: undefined },
];

for (const { is, text, ports } of cases) {
  t.test(`the ports of ${is}`, (t) => {
    t.strictSame(portsInText(text), ports);
    t.end();
  });
}
