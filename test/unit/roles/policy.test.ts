import t from "tap";
import { decide } from "../../../src/roles/grant.ts";
import { rolePolicy } from "../../../src/roles/policy.ts";
import { account, asks, configWith, containerWith } from "./cases.ts";

t.test("an alias in both aliases and aliasToARN has the rules of aliases", (t) => {
  const config = configWith();
  const both = { ...config, aliasToARN: { ...config.aliasToARN, ops: `${account}/ops` } };
  t.match(decide(containerWith(asks("ops")), rolePolicy(both), undefined), { code: "alias-not-allowed" });
  t.end();
});
