import type { Config } from "../config/schema.ts";
import { failures } from "../credentials/failures.ts";
import { readMetadata } from "../credentials/host-credentials.ts";
import { type HostSts, openSts } from "../credentials/sts.ts";
import { explain, OperatorError, problemLine } from "../errors.ts";
import { run } from "../firewall/command.ts";
import type { Log } from "../log.ts";
import { MetadataClient } from "../metadata/client.ts";
import { rolePolicy } from "../roles/grant.ts";
import type { HostChecks } from "./check.ts";
import { hostClocks } from "./clocks.ts";
import { hostFirewallSettings, hostFirewallStatus } from "./firewall.ts";
import { hostTools, probeBridges } from "./firewall-probe.ts";
import { serviceFindings } from "./service-findings.ts";
import type { Services } from "./services.ts";
import { stsSettings } from "./sts-settings.ts";

const timeoutMs = 5_000;

/** What `check` asks the instance: its metadata service, STS with its own credentials, its firewall. */
export function hostChecks(
  services: Services,
  log: Log,
  program: readonly string[],
  isRoot: boolean,
): HostChecks {
  const { environment } = services;
  const tools = hostTools(program);
  const clocks = hostClocks();
  const withMetadata = async <T>(config: Config, use: (metadata: MetadataClient) => Promise<T>) => {
    const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now: clocks.now });
    try {
      return await use(metadata);
    } finally {
      metadata.close();
    }
  };
  const withSts = <T>(config: Config, use: (sts: HostSts) => Promise<T>) =>
    withMetadata(config, async (metadata) => {
      const sts = openSts(stsSettings(config, environment, log, clocks, metadata));
      try {
        return await use(sts);
      } finally {
        sts.close();
      }
    });
  return {
    metadata: (config) =>
      withMetadata(config, async (metadata) => {
        const path = "/latest/meta-data/instance-id";
        const { body } = await readMetadata(metadata, path, timeoutMs, "metadata-failing");
        return `${config.metadataEndpoint} answers; instance ${body.trim()}`;
      }),
    sts: (config) =>
      withSts(config, async (sts) => {
        const region = await sts.region(AbortSignal.timeout(timeoutMs));
        const arn = await sts.callerArn(AbortSignal.timeout(timeoutMs));
        return `region ${region}; this host is ${arn}, from the ${sts.identity().source}`;
      }),
    role: (config, alias) =>
      withSts(config, async (sts) => {
        // Not `config.aliases[alias]`: every object has a member `constructor`. The Map has aliases only.
        const settings = rolePolicy(config).aliases.get(alias);
        const roleArn = settings?.roleArn ?? "";
        const request = {
          roleArn,
          sessionName: "ec2metaproxy-check",
          // As containers get it: the role's own maximum may be less.
          durationSeconds: settings?.durationSeconds ?? 3_600,
          ...(settings?.externalId !== undefined && { externalId: settings.externalId }),
        };
        try {
          await sts.assumeRole(request, AbortSignal.timeout(timeoutMs));
          const text = `${alias}: this host may assume ${roleArn}`;
          const limit = sts.durationLimit(roleArn);
          if (limit === undefined) return text;
          const { cause, cure } = failures[limit];
          return { text: `${text}, for one hour at a time: ${cause}`, hint: cure };
        } catch (cause) {
          throw new Error(`${alias}: assuming ${roleArn}`, { cause });
        }
      }),
    services: (config, configPath) =>
      serviceFindings(services, config, configPath, { run, isRoot, isProxy: tools.isProxy }),
    probe: async (config) => {
      const settings = await hostFirewallSettings(config, log);
      return probeBridges(tools, settings);
    },
    firewall: async (config) => {
      try {
        const { inPlace, missing, summary, layer2, notes } = await hostFirewallStatus(config, log);
        // Somebody else's rules and bridges, which only a probe can judge.
        const others = notes.map((text) => ({ ok: undefined, text, hint: "" }));
        if (!inPlace) {
          const lacking = missing.length === 0 ? "" : `; missing: ${missing.slice(0, 3).join("; ")}`;
          const hint =
            "`ec2metaproxy firewall status` lists what is missing, `ec2metaproxy firewall apply` fixes it.";
          return [{ ok: false, text: `${summary}${lacking}`, hint }, ...others];
        }
        // A warning, not a failure: a host that cannot have these rules would never pass. The port lock needs
        // what they need.
        return layer2.open === ""
          ? [{ ok: true, text: summary, hint: "" }, ...others]
          : [
              {
                ok: config.identityProof === "address" ? false : undefined,
                text: summary,
                hint: "docs/firewall.md lists what a host needs for rules on layer 2.",
              },
              ...others,
            ];
      } catch (error) {
        const hint = error instanceof OperatorError ? error.hint : "";
        const problems = error instanceof OperatorError ? error.problems.map(problemLine) : [];
        return [
          {
            // An ordinary user cannot read the rules, which says nothing about them.
            ok: isRoot ? false : undefined,
            text: [explain(error), ...problems].join("; "),
            hint: isRoot || problems.length > 0 ? hint : "Run it as root.",
          },
        ];
      }
    },
  };
}
