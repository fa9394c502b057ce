import type { Environment } from "../config/load.ts";
import { openSts } from "../credentials/sts.ts";
import { explain, OperatorError } from "../errors.ts";
import { Upstream } from "../imds/upstream.ts";
import type { Log } from "../log.ts";
import { MetadataClient } from "../metadata/client.ts";
import { rolePolicy } from "../roles/grant.ts";
import type { HostChecks } from "./check.ts";
import { hostClocks } from "./clocks.ts";
import { firewallHere } from "./firewall-here.ts";
import type { FirewallStatus } from "./firewall-status.ts";
import { stsSettings } from "./sts-settings.ts";

const timeoutMs = 5_000;

/** The looks at the instance that `check` takes: its metadata service, its own credentials, its firewall. */
export function hostChecks(environment: Environment, log: Log): HostChecks {
  return {
    metadata: async (config) => {
      const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now: hostClocks().now });
      const upstream = new Upstream({
        metadata,
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
        metadata.close();
      }
    },
    sts: async (config) => {
      const clocks = hostClocks();
      const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now: clocks.now });
      const sts = openSts(stsSettings(config, environment, log, clocks, metadata));
      try {
        const region = await sts.region(AbortSignal.timeout(timeoutMs));
        const arn = await sts.callerArn(AbortSignal.timeout(timeoutMs));
        return `region ${region}; this host is ${arn}, by the ${sts.identity().source}`;
      } finally {
        sts.close();
        metadata.close();
      }
    },
    role: async (config, alias) => {
      // From the Map that the containers' requests are looked up in: `config.aliases.constructor` is there in every object.
      const settings = rolePolicy(config).aliases.get(alias);
      const roleArn = settings?.roleArn ?? "";
      const clocks = hostClocks();
      const metadata = new MetadataClient({ endpoint: config.metadataEndpoint, now: clocks.now });
      const sts = openSts(stsSettings(config, environment, log, clocks, metadata));
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
        metadata.close();
      }
    },
    firewall: async () => {
      const lines: string[] = [];
      try {
        const code = await firewallHere(
          {
            command: "firewall",
            action: "status",
            configPath: undefined,
            settingsDirectory: undefined,
            backend: undefined,
            json: true,
          },
          (text) => lines.push(text),
          log,
        );
        const { summary, layer2 } = JSON.parse(lines.join("")) as FirewallStatus; // commands/firewall.ts wrote it
        if (code !== 0) {
          const hint =
            "`ec2metaproxy firewall status` names what is missing, `ec2metaproxy firewall apply` mends it.";
          return { ok: false, text: summary, hint };
        }
        // Not a failure: a host that cannot have these rules would never pass.
        return layer2.open === ""
          ? { ok: true, text: summary, hint: "" }
          : {
              ok: undefined,
              text: summary,
              hint: "docs/firewall.md says what a host needs for rules on layer 2.",
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
