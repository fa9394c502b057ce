import t from "tap";
import { parseConfig } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import type { Container } from "../../../src/containers/container.ts";
import { type Denial, decide, type Grant } from "../../../src/roles/grant.ts";
import { rolePolicy } from "../../../src/roles/policy.ts";

/** Shared by the tables of grant cases. */

export const account = "arn:aws:iam::123456789012:role";
export const roleAlias = "ec2metaproxy.RoleAlias";
export const iamProfile = "com.swipely.iam-docker.iam-profile";
export const policyLabel = "ec2metaproxy.Policy";
export const narrow = '{"Version":"2012-10-17","Statement":[]}';
export const wide = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}';

/** Aliases `web` and `db` are open to every container, `ops` is not. There is no default alias. */
const base = {
  aliasToARN: { web: `${account}/web`, db: `${account}/data/db` },
  aliases: { ops: { roleArn: `${account}/ops`, allow: { images: ["registry.example.com/ops/*"] } } },
};
export const asks = (alias: string) => ({ labels: { [roleAlias]: alias } });

type ConfigText = {
  readonly aliasToARN?: object;
  readonly aliases?: object;
  readonly [key: string]: unknown;
};

export type Case = {
  readonly is: string;
  readonly config?: ConfigText;
  readonly container?: Partial<Container>;
  /** The alias that is granted, the role ARN if there is no alias, or the code of the refusal. */
  readonly gets: string;
  readonly by?: Grant["source"];
  /** Expected in the grant's rule or the denial's reason. */
  readonly says?: string | RegExp;
  readonly policy?: readonly [source: Grant["policySource"], text?: string];
};

/** Makes each case a test of its own. */
export function testCases(cases: readonly Case[]): void {
  for (const { is, config, container, gets, by, says, policy } of cases) {
    t.test(is, (t) => {
      const decision = decide(containerWith(container), rolePolicy(configWith(config)), undefined);
      const granted = decision.kind === "grant";
      const words = granted ? decision.rule : decision.reason;
      t.equal(resultOf(decision), gets, words);
      if (by !== undefined) t.equal(decision.source, by, "the source of the request");
      if (typeof says === "string") t.ok(words.includes(says), `says ${says}, in ${words}`);
      else if (says !== undefined) t.match(words, says, "says so");
      if (!granted) t.match(decision.hint, /^[A-Z].*\.$/, "there is a hint");
      for (const text of granted ? [words, ...decision.notes] : [words, decision.hint]) {
        t.notMatch(text, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|undefined/u, "nothing that a terminal interprets");
      }
      if (policy !== undefined) {
        const found = granted ? [decision.policySource, decision.request.policy] : [];
        t.same(found, [policy[0], policy[1]], "policy");
      }
      t.end();
    });
  }
}

function resultOf(decision: Grant | Denial): string {
  return decision.kind === "denial" ? decision.code : (decision.alias ?? decision.request.roleArn);
}

export function containerWith(over: Partial<Container> = {}): Container {
  return {
    id: `0123456789ab${"c".repeat(52)}`,
    name: "web-1",
    image: "nginx",
    imageId: `sha256:${"0".repeat(64)}`,
    labels: {},
    env: {},
    user: "",
    attachments: [{ network: "bridge", ipv4: "172.18.0.2", ipv6: undefined, mac: undefined }],
    pid: 4242,
    risks: [],
    source: "engine",
    ...over,
  };
}

/** Parsed like the operator's file, so that the defaults are real. */
export function configWith(over: ConfigText = {}): Config {
  const text = JSON.stringify({
    ...base,
    ...over,
    aliasToARN: { ...base.aliasToARN, ...over.aliasToARN },
    aliases: { ...base.aliases, ...over.aliases },
  });
  const parsed = parseConfig(text, "config.json");
  if (!parsed.ok) throw new Error(`reading the test's configuration: ${JSON.stringify(parsed.problems)}`);
  return parsed.config;
}
