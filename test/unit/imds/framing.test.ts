import t from "tap";
import { requestText, wire } from "../../support/raw-http.ts";
import { listPath, proxyFixture, tokenPath } from "./fixture.ts";

const tokenHeader = "X-aws-ec2-metadata-token";
const open = { config: { httpTokens: "optional" } };

t.test(
  "a request with a body ends its connection, and no byte of the body is parsed as a request",
  async (t) => {
    const proxy = await proxyFixture(t, open);
    const inner = requestText("GET", "/latest/meta-data/instance-id");
    const put = (...lines: readonly string[]) =>
      requestText("PUT", tokenPath, [`${tokenHeader}-ttl-seconds: 60`, ...lines]);
    const get = (...lines: readonly string[]) => requestText("GET", listPath, lines);
    const cases: readonly [what: string, bytes: string][] = [
      [
        "a token request with a body that looks like a request",
        `${put(`Content-Length: ${inner.length}`)}${inner}`,
      ],
      ["a token request with one byte", `${put("Content-Length: 1")}x`],
      ["a token request with one chunk", `${put("Transfer-Encoding: chunked")}1\r\nx\r\n0\r\n\r\n`],
      ["a token request with a trailer", `${put("Transfer-Encoding: chunked")}0\r\nX-Trailer: x\r\n\r\n`],
      ["a token request with chunks that do not arrive", put("Transfer-Encoding: chunked")],
      ["a token request with chunks that do not end", `${put("Transfer-Encoding: chunked")}0\r\n`],
      ["a token request with a Content-Length and no body", put("Content-Length: 5")],
      ["a role list request with a body", `${get("Content-Length: 5")}hello`],
      ["a role list request with empty chunks", `${get("Transfer-Encoding: chunked")}0\r\n\r\n`],
      ["HEAD with a body", `${requestText("HEAD", listPath, ["Content-Length: 5"])}hello`],
      ["another coding", `${put("Transfer-Encoding: gzip, chunked")}0\r\n\r\n`],
      ["POST with a body", `${requestText("POST", tokenPath, ["Content-Length: 2"])}{}`],
    ];
    for (const [what, bytes] of cases)
      await t.test(`${what} gets 400`, async (t) => {
        using one = wire(proxy.port);
        one.write(`${bytes}${inner}`);
        const text = await one.closed();
        t.match(text, /^HTTP\/1.1 400 [\s\S]*Connection: close/);
        t.equal(text.split("HTTP/1.1 ").length, 2, "one answer and no more");
        t.notMatch(text, /AQA|Web|i-/, "without a token, a role or metadata");
      });
    for (const [what, bytes, expected] of [
      ["a token request with a length of 0", put("Content-Length: 0"), /^AQA/],
      ["a token request with empty chunks", `${put("Transfer-Encoding: Chunked")}0\r\n\r\n`, /^AQA/],
      [
        "a token request with an extension on the empty chunk",
        `${put("Transfer-Encoding: chunked")}0;x=y\r\n\r\n`,
        /^AQA/,
      ],
      ["a role list request with a length of 0", get("Content-Length: 0"), /^Web$/],
    ] as const)
      await t.test(`${what} is answered`, async (t) => {
        using one = wire(proxy.port);
        one.write(bytes);
        t.match((await one.answer())?.body, expected);
        one.write(inner);
        t.match((await one.answer())?.body, /^i-/, "and the connection is kept");
      });
  },
);

t.test("a body after a request that is not answered yet ends the connection without an answer", async (t) => {
  const proxy = await proxyFixture(t, open);
  proxy.aws.sts.faults.set({ latencyMs: 300 });
  using one = wire(proxy.port);
  one.write(
    `${requestText("GET", `${listPath}Web`)}${requestText("GET", listPath, ["Content-Length: 5"])}hello`,
  );
  t.equal(await one.closed(), "");
});
