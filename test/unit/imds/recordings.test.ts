import t from "tap";
import { type Recording, recordings } from "../../conformance/recordings.ts";
import { ask, type RawAnswer } from "../../support/raw-http.ts";
import { givenProxy, lax, listPath, none, tokenPath, web } from "./fixture.ts";

/** Neither says anything of the service: the one is the connection's, the other the hour. */
const ofConnection = ["connection", "keep-alive"];

t.test(
  "answers have the headers and fields of recordings of the real service, but for the named differences",
  async (t) => {
    const proxy = await givenProxy(t, { config: { passthrough: { allow: ["user-data"] } } });
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
      const answer = await get();
      const lacks = recording.proxyLacks ?? [];
      const expected = [
        ...recording.headers.filter((header) => !lacks.includes(header)),
        ...(recording.proxyHas ?? []),
      ];
      const names = answer.headers.map(([header]) => header.toLowerCase());
      const plain = (all: readonly string[]) => all.filter((header) => !ofConnection.includes(header)).sort();
      t.equal(answer.status, recording.status, recording.name);
      t.same(plain(names), plain(expected), `${recording.name}: header names`);
      for (const [header, value] of Object.entries(recording.values))
        t.equal(answer.header(header), value, `${recording.name}: ${header}`);
      if (recording.fields === undefined) continue;
      const fields = Array.from(answer.body.matchAll(/^ {2}"(\w+)" : "/gm), ([, field]) => field);
      t.same(fields, recording.fields, `${recording.name}: fields in their order`);
      t.ok(
        answer.body.startsWith("{\n") && answer.body.endsWith('"\n}'),
        `${recording.name}: no newline at the end`,
      );
    }
  },
);

t.test("headers of our own answers are in one order", async (t) => {
  const proxy = await givenProxy(t);
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
