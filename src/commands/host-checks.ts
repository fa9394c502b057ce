import type { Environment } from "../config/load.ts";
import { openSts } from "../credentials/sts.ts";
import { explain, OperatorError } from "../errors.ts";
import { Upstream } from "../imds/upstream.ts";
import type { Log } from "../log.ts";
import type { HostChecks } from "./check.ts";
import { firewallHere } from "./firewall-here.ts";
import { stsSettings } from "./sts-settings.ts";

const timeoutMs = 5_000;

/** The looks at the instance that `check` takes: its metadata service, its own credentials, its firewall. */
export function hostChecks(environment: Environment, log: Log): HostChecks {
  return {
    metadata: async (config) => {
      const upstream = new Upstream({
        endpoint: config.metadataEndpoint,
        cacheSeconds: 0,
        now: Date.now,
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
      const sts = openSts(stsSettings(config, environment, log, Date.now));
      try {
        const region = await sts.region(AbortSignal.timeout(timeoutMs));
        const identity = await sts.identity();
        return `region ${region}; the host's own credentials come from the ${identity.source}`;
      } finally {
        sts.close();
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
            json: false,
          },
          (text) => lines.push(text),
          log,
        );
        return {
          ok: code === 0,
          text: lines.join(" ").trim(),
          hint: code === 0 ? "" : "ec2metaproxy firewall apply",
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
