import t from "tap";
import { db, givenProxy, web } from "./fixture.ts";

const listPath = "/latest/meta-data/iam/security-credentials/";

for (const foreign of [
  "html-403",
  "empty-403",
  "json-403",
  "html-407",
  "moved-302",
  "login-200",
  "cut-403",
]) {
  t.test(
    `STS behind something that answers ${foreign}: clients get 503 with Retry-After, and soon their credentials`,
    async (t) => {
      const proxy = await givenProxy(t);
      proxy.aws.sts.faults.set({ foreign });
      const { status, headers, body } = await proxy.get(web, `${listPath}Web`);
      t.equal(status, 503);
      t.match(new Headers(headers.map(([name, value]) => [name, value])).get("Retry-After"), /^[1-5]$/);
      t.match(body, /"Code" : "CredentialsUninitialized"/);
      t.notMatch(body, /html|Forbidden|Location/, "and nothing of what came");
      proxy.aws.sts.faults.set({});
      const over = performance.now();
      let served = await proxy.get(web, `${listPath}Web`);
      while (served.status !== 200 && performance.now() - over < 6_000)
        served = await proxy.get(web, `${listPath}Web`);
      t.equal(served.status, 200);
      t.ok(performance.now() - over < 5_000, `${Math.round(performance.now() - over)} ms`);
      t.equal((await proxy.get(db, `${listPath}Database`)).status, 200);
    },
  );
}
