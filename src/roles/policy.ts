import type { AliasConfig, Config } from "../config/schema.ts";
import type { Risk } from "../containers/container.ts";
import { type AllowRule, allowRules } from "./allow.ts";
import { parseRoleArn, type RoleArn, type RoleArnGlob, roleArnGlob, roleIdentity } from "./arn.ts";
import { parseTemplate, type Template } from "./template.ts";

/** The configuration's rules about which container may have which role, compiled. */
export type RolePolicy = {
  /**
   * A Map, not an object: the keys looked up come from containers and may be `__proto__` or `constructor`.
   */
  readonly aliases: ReadonlyMap<string, RoleSettings & { readonly alias: string }>;
  /** By `roleIdentity`, in the order of the configuration: all of `aliases`, then `aliasToARN`. */
  readonly aliasesByRole: ReadonlyMap<string, readonly (RoleSettings & { readonly alias: string })[]>;
  readonly allowRoleArns: readonly RoleArnGlob[];
  readonly defaultAlias: string | undefined;
  readonly defaultPolicy: string | undefined;
  readonly requireLabel: boolean;
  readonly refuse: ReadonlySet<Risk>;
  /** The settings of a role without an alias, requested by its ARN. */
  unnamed(roleArn: string, arn: RoleArn): RoleSettings;
};

/** The settings of an alias, with the global ones filled in. */
export type RoleSettings = {
  readonly alias: string | undefined;
  readonly roleArn: string;
  readonly arn: RoleArn;
  readonly durationSeconds: number;
  readonly externalId: string | undefined;
  readonly policy: string | undefined;
  readonly policyArns: readonly string[];
  readonly containerPolicy: boolean;
  readonly sessionName: Template;
  readonly tags: ReadonlyMap<string, Template>;
  readonly sourceIdentity: Template | undefined;
  /** Undefined: every container may use it. */
  readonly allow: readonly AllowRule[] | undefined;
  readonly httpTokens: "required" | "optional";
};

/** Throws for an invalid ARN or template. A loaded configuration has none. */
export function rolePolicy(config: Config): RolePolicy {
  const sessionName = parseTemplate(config.sessionName);
  const settings = <Alias extends string | undefined>(
    alias: Alias,
    roleArn: string,
    arn: RoleArn | undefined = parseRoleArn(roleArn),
    own?: AliasConfig,
  ): RoleSettings & { readonly alias: Alias } => {
    if (arn === undefined)
      throw new Error(`reading the role of alias ${alias}: ${roleArn} is not a role ARN`);
    return {
      alias,
      roleArn,
      arn,
      durationSeconds: own?.durationSeconds ?? 3600,
      externalId: own?.externalId,
      policy: own?.policy,
      policyArns: own?.policyArns ?? [],
      containerPolicy: own?.containerPolicy ?? false,
      sessionName: own?.sessionName === undefined ? sessionName : parseTemplate(own.sessionName),
      tags: new Map(Object.entries(own?.tags ?? {}).map(([key, text]) => [key, parseTemplate(text)])),
      sourceIdentity: own?.sourceIdentity === undefined ? undefined : parseTemplate(own.sourceIdentity),
      allow: allowRules(own?.allow),
      httpTokens: own?.httpTokens ?? config.httpTokens,
    };
  };

  const all = [
    ...Object.entries(config.aliases).map(([alias, own]) => settings(alias, own.roleArn, undefined, own)),
    ...Object.entries(config.aliasToARN)
      // The full form has the rules. The short one must not override them.
      .filter(([alias]) => !Object.hasOwn(config.aliases, alias))
      .map(([alias, roleArn]) => settings(alias, roleArn)),
  ];
  return {
    aliases: new Map(all.map((each) => [each.alias, each])),
    aliasesByRole: Map.groupBy(all, ({ arn }) => roleIdentity(arn)),
    allowRoleArns: config.allowRoleArns.map(roleArnGlob),
    defaultAlias: config.defaultAlias,
    defaultPolicy: config.defaultPolicy,
    requireLabel: config.requireLabel,
    refuse: new Set(config.refuse),
    unnamed: (roleArn, arn) => settings(undefined, roleArn, arn),
  };
}
