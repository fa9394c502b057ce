import t from "tap";
import { role, validConfig } from "./fixture.ts";

t.test("an empty object is a configuration that gives no container a role and has every default", (t) => {
  const config = validConfig("{}");
  t.equal(config.listen, ":18000");
  t.equal(config.httpTokens, "required");
  t.equal(config.identityProof, "socket");
  t.equal(config.metadataEndpoint, "http://169.254.169.254");
  t.equal(config.sessionName, "{name}-{id}");
  t.equal(config.prefetch, true);
  t.same(config.aliasToARN, {});
  t.notOk(
    config.passthrough.allow.some((category) =>
      /user-data|identity-credentials|pkcs7|signature|rsa2048|^iam/.test(category),
    ),
    "nothing secret is forwarded by default",
  );
  t.end();
});

t.test("the JSON fork's files load unchanged", (t) => {
  const readme = `{
      "defaultAlias": "default",
      "aliasToARN": {
        "default": "arn:aws:iam::000000000000:role/ProxyDefault",
        "db": "arn:aws:iam::000000000000:role/MysqlSlave"
      },
      "dockerHost": "unix:///var/run/custom-docker.sock",
      "listen": ":18000",
      "verbose": true
    }`;
  const config = validConfig(readme);
  t.equal(config.defaultAlias, "default");
  t.equal(config.aliasToARN.db, "arn:aws:iam::000000000000:role/MysqlSlave");
  t.equal(config.verbose, true);
  const policy = '{"Version":"2012-10-17","Statement":[]}';
  t.equal(
    validConfig({
      defaultAlias: "d",
      aliasToARN: { d: role },
      defaultPolicy: policy,
      listen: "127.0.0.1:8000",
    }).defaultPolicy,
    policy,
  );
  const unused = validConfig({
    defaultAlias: "d",
    aliasToARN: { d: role },
    defaultPolicy: "",
    dockerHost: "",
    listen: ":18000",
  });
  t.equal(unused.defaultPolicy, undefined, "as there, an empty policy is no policy");
  t.equal(unused.dockerHost, undefined, "as there, an empty host is the default");
  t.end();
});

t.test("an alias may have the name of an object's built-in member", (t) => {
  const config = validConfig({ aliasToARN: { constructor: role, toString: role } });
  t.same(Object.keys(config.aliasToARN), ["constructor", "toString"]);
  t.end();
});
