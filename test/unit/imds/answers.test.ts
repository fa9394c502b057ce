import { createServer } from "node:http";
import { connect } from "node:net";
import t from "tap";
import { answer200, errorAnswers, sendAnswer, tokenMethodAnswer } from "../../../src/imds/answers.ts";
import { type Recording, recordings } from "../../conformance/recordings.ts";
import { ask, type RawAnswer } from "../../support/raw-http.ts";
import { lax, listPath, none, proxyFixture, tokenPath, web } from "./fixture.ts";

t.test("the 404 page is the service's own, byte for byte", async (t) => {
  const { body, headers } = errorAnswers[404];
  t.equal(body.length, 339);
  t.same(headers.slice(0, 4), ["Content-Type", "text/html", "Content-Length", "339"]);
  t.match(
    body,
    /^<\?xml version="1\.0" encoding="iso-8859-1"\?>\n<!DOCTYPE html PUBLIC "[^"]*"\n\t\t "http[^"]*">\n<html /,
  );
  t.match(body, /<title>404 - Not Found<\/title>/);
  t.ok(body.endsWith("</html>\n"));
});

t.test("every error has its length and comes from EC2ws", async (t) => {
  for (const answer of [...Object.values(errorAnswers), tokenMethodAnswer]) {
    const headers = new Map(
      answer.headers.flatMap((name, at) => (at % 2 === 0 ? [[name, answer.headers[at + 1]]] : [])) as [
        string,
        string,
      ][],
    ); // pairs, as built
    t.equal(headers.get("Content-Length"), String(answer.body.length));
    t.equal(headers.get("Server"), "EC2ws");
  }
  t.match(tokenMethodAnswer, {
    status: 405,
    body: "",
    headers: [
      "Content-Type",
      "text/plain",
      "Content-Length",
      "0",
      "Server",
      "EC2ws",
      "Allow",
      "OPTIONS, PUT",
    ],
  });
});

t.test(
  "an answer is sent with its body, or without it for HEAD, and with the remaining TTL of the client's token",
  async (t) => {
    const server = createServer((request, response) => {
      const seconds = request.headers["x-seconds"];
      sendAnswer(
        response,
        answer200("text/plain", "caf\u00e9"),
        seconds === undefined ? undefined : Number(seconds),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.teardown(() => server.close());
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const ask = (lines: string) =>
      new Promise<string>((resolve, reject) => {
        const chunks: Buffer[] = [];
        const socket = connect(port, "127.0.0.1", () =>
          socket.end(`${lines}\r\nHost: x\r\nConnection: close\r\n\r\n`),
        );
        socket.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", reject);
        socket.on("close", () => resolve(Buffer.concat(chunks).toString("utf8")));
      });
    const plain = await ask("GET / HTTP/1.1");
    t.match(
      plain,
      /^HTTP\/1\.1 200 OK\r\nContent-Type: text\/plain\r\nContent-Length: 5\r\nServer: EC2ws\r\nAccept-Ranges: none\r\n/,
    );
    t.ok(plain.endsWith("\r\n\r\ncaf\u00e9"));
    t.notMatch(plain, /Ttl/i);
    t.match(
      await ask("GET / HTTP/1.1\r\nX-Seconds: 21599"),
      /\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21599\r\n/,
    );
    const head = await ask("HEAD / HTTP/1.1");
    t.match(head, /\r\nContent-Length: 5\r\n/);
    t.ok(head.endsWith("\r\n\r\n"));
  },
);

/** Headers of the connection, which the service does not choose. */
const ofConnection = ["connection", "keep-alive"];

t.test(
  "answers have the headers and fields of recordings of the real service, except for the listed differences",
  async (t) => {
    const proxy = await proxyFixture(t, { config: { passthrough: { allow: ["user-data"] } } });
    const answers: Readonly<Record<keyof typeof recordings, () => Promise<RawAnswer>>> = {
      token: () =>
        ask({ port: proxy.port, from: web.address }, "PUT", tokenPath, [
          "X-aws-ec2-metadata-token-ttl-seconds: 21600",
        ]),
      tokenMethod: () => ask({ port: proxy.port, from: web.address }, "GET", tokenPath),
      roleList: () => proxy.get(web, listPath),
      credentials: () => proxy.get(web, `${listPath}Web`),
      info: () => ask({ port: proxy.port, from: lax.address }, "GET", "/latest/meta-data/iam/info"),
      noRole: () => proxy.get(none, listPath),
      userData: () => proxy.get(web, "/latest/user-data"),
    };
    for (const [name, get] of Object.entries(answers)) {
      const recording: Recording = recordings[name as keyof typeof recordings]; // its keys, by the type above
      await t.test(recording.name, async (t) => {
        const answer = await get();
        const lacks = recording.proxyLacks ?? [];
        const expected = [
          ...recording.headers.filter((header) => !lacks.includes(header)),
          ...(recording.proxyHas ?? []),
        ];
        const names = answer.headers.map(([header]) => header.toLowerCase());
        const plain = (all: readonly string[]) =>
          all.filter((header) => !ofConnection.includes(header)).sort();
        t.equal(answer.status, recording.status);
        t.same(plain(names), plain(expected), "header names");
        for (const [header, value] of Object.entries(recording.values))
          t.equal(answer.header(header), value, header);
        if (recording.fields === undefined) return;
        const fields = Array.from(answer.body.matchAll(/^ {2}"(\w+)" : "/gm), ([, field]) => field);
        t.same(fields, recording.fields, "fields in their order");
        t.ok(answer.body.startsWith("{\n") && answer.body.endsWith('"\n}'), "no newline at the end");
      });
    }
  },
);

t.test("the headers of the proxy's own answers are in a fixed order", async (t) => {
  const proxy = await proxyFixture(t);
  const answer = await proxy.get(web, `${listPath}Web`, "Connection: close");
  t.same(
    answer.headers.map(([name]) => name),
    [
      "Content-Type",
      "Content-Length",
      "Server",
      "Accept-Ranges",
      "X-Aws-Ec2-Metadata-Token-Ttl-Seconds",
      "Date",
      "Connection",
    ],
  );
  t.equal(answer.header("connection"), "close", "the real one closes after each answer; we do when asked to");
});
