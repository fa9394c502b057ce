import type { Environment } from "../config/load.ts";
import { openSts } from "../credentials/sts.ts";
import { explain, OperatorError } from "../errors.ts";
import { Upstream } from "../imds/upstream.ts";
import type { Log } from "../log.ts";
import { rolePolicy } from "../roles/grant.ts";
import type { HostChecks } from "./check.ts";
import { hostClocks } from "./clocks.ts";
import { hostFirewallStatus } from "./firewall.ts";
import { stsSettings } from "./sts-settings.ts";

const timeoutMs = 5_000;

/** What `check` asks the instance: its metadata service, STS with its own credentials, its firewall. */
export function hostChecks(environment: Environment, log: Log): HostChecks {
  return {
    metadata: async (config) => {
      const upstream = new Upstream({
        endpoint: config.metadataEndpoint,
        cacheSeconds: 0,
        requestsPerSecond: config.passthrough.requestsPerSecond,
        now: hostClocks().now,
        timeoutMs,
      });
      try {
        const instanceId = await upstream.text("/latest/meta-data/instance-id");
        return `${config.metadataEndpoint} answers; instance ${instanceId?.trim() ?? "without an id"}`;
      } finally {
        upstream.close();
      }
    },
    sts: async (config) => {
      const sts = openSts(stsSettings(config, environment, log, hostClocks()));
      try {
        const region = await sts.region(AbortSignal.timeout(timeoutMs));
        const arn = await sts.callerArn(AbortSignal.timeout(timeoutMs));
        return `region ${region}; this host is ${arn}, from the ${sts.identity().source}`;
      } finally {
        sts.close();
      }
    },
    role: async (config, alias) => {
      // Not `config.aliases[alias]`: every object has a member `constructor`. The Map has aliases only.
      const settings = rolePolicy(config).aliases.get(alias);
      const roleArn = settings?.roleArn ?? "";
      const sts = openSts(stsSettings(config, environment, log, hostClocks()));
      const request = {
        roleArn,
        sessionName: "ec2metaproxy-check",
        durationSeconds: 900,
        ...(settings?.externalId !== undefined && { externalId: settings.externalId }),
      };
      try {
        await sts.assumeRole(request, AbortSignal.timeout(timeoutMs));
        return `${alias}: this host may assume ${roleArn}`;
      } catch (cause) {
        throw new Error(`${alias}: assuming ${roleArn}`, { cause });
      } finally {
        sts.close();
      }
    },
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
