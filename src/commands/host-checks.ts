import type { Environment } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { failures } from "../credentials/failures.ts";
import { readMetadata } from "../credentials/host-credentials.ts";
import { type HostSts, openSts } from "../credentials/sts.ts";
import { explain, OperatorError } from "../errors.ts";
import type { Log } from "../log.ts";
import { MetadataClient } from "../metadata/client.ts";
import { rolePolicy } from "../roles/grant.ts";
import type { HostChecks } from "./check.ts";
import { hostClocks } from "./clocks.ts";
import { hostFirewallStatus } from "./firewall.ts";
import { stsSettings } from "./sts-settings.ts";

const timeoutMs = 5_000;

/** What `check` asks the instance: its metadata service, STS with its own credentials, its firewall. */
export function hostChecks(environment: Environment, log: Log): HostChecks {
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
    firewall: async ({ identityProof }) => {
      try {
        const { inPlace, summary, layer2 } = await hostFirewallStatus(log);
        if (!inPlace) {
          const hint =
            "`ec2metaproxy firewall status` lists what is missing, `ec2metaproxy firewall apply` fixes it.";
          return { ok: false, text: summary, hint };
        }
        // A note, not a failure: a host that cannot have these rules would never pass. The port lock needs
        // what they need.
        return layer2.open === ""
          ? { ok: true, text: summary, hint: "" }
          : {
              ok: identityProof === "address" ? false : undefined,
              text: summary,
              hint: "docs/firewall.md lists what a host needs for rules on layer 2.",
            };
      } catch (error) {
        return {
          ok: undefined,
          text: explain(error),
          hint: error instanceof OperatorError ? error.hint : "",
        };
      }
    },
  };
}
