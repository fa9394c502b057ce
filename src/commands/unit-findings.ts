import { packagedUnits, type Unit } from "../systemd/unit-states.ts";
import type { Finding } from "./finding.ts";

type Judged = Omit<Finding, "subject">;

/** What containers get while a unit does not run. */
const withoutUnit: Readonly<Record<string, { readonly ok: Finding["ok"]; readonly means: string }>> = {
  "ec2metaproxy.service": { ok: false, means: "containers get no answer" },
  "ec2metaproxy.socket": { ok: false, means: "nobody accepts the containers' requests" },
  "ec2metaproxy-guard.service": {
    ok: false,
    means: "containers that start now get 503, and no address is locked",
  },
  "ec2metaproxy-firewall.service": {
    ok: undefined,
    means: "the rules were not put in force at boot",
  },
  "ec2metaproxy-firewall.timer": {
    ok: undefined,
    means: "rules that somebody removes are restored by the guard only",
  },
  "ec2metaproxy-firewall-repair.path": {
    ok: undefined,
    means: "iptables rules that somebody removes are restored by the timer only",
  },
};

/** What a host is like after a boot without a unit. */
const withoutBoot: Readonly<Record<string, string>> = {
  "ec2metaproxy-firewall.service":
    "after the next boot CONTAINERS REACH THE INSTANCE'S OWN ROLE, until something applies the rules",
};

/** A line for each packaged unit; pure. */
export function unitFindings(units: readonly Unit[]): readonly Finding[] {
  return packagedUnits.map((name): Finding => {
    const unit = units.find((one) => one.name === name);
    return { subject: "unit", ...judged(name, unit, units) };
  });
}

function judged(name: string, unit: Unit | undefined, units: readonly Unit[]): Judged {
  const without = meaningWithout(name, units);
  if (unit === undefined || unit.load === "not-found")
    return {
      ok: without.ok,
      text: `${name}: not installed; ${without.means}`,
      hint: "Reinstall the package.",
    };
  const state = `${name}: ${unit.active} (${unit.sub}), ${unit.file === "" ? "no unit file" : unit.file}`;
  if (unit.load === "masked" || unit.file.startsWith("masked"))
    return {
      ok: unit.active === "active" ? undefined : false,
      text: `${state}; ${unit.active === "active" ? atBoot(name) : without.means}`,
      hint: `Run: systemctl unmask ${name} && systemctl enable --now ec2metaproxy`,
    };
  if (unit.load !== "loaded")
    return {
      ok: false,
      text: `${state}; systemd cannot load it: ${unit.load}`,
      hint: `Run: systemctl status ${name}`,
    };
  if (unit.active === "failed")
    return {
      ok: false,
      text: `${state}; ${unit.result}${unit.exitStatus === 0 ? "" : `, exit status ${unit.exitStatus}`}; ${without.means}`,
      hint:
        unit.exitStatus === 78
          ? `The configuration must be edited: journalctl -u ${name} -n 20 says where. Then: systemctl start ${name}`
          : `journalctl -u ${name} -n 20 says why.`,
    };
  if (unit.sub.startsWith("auto-restart"))
    return {
      ok: false,
      text: `${state}; it fails and is started again, ${unit.restarts} times so far${unit.exitStatus === 0 ? "" : `, exit status ${unit.exitStatus}`}; ${without.means}`,
      hint: `journalctl -u ${name} -n 20 says why.`,
    };
  if (unit.active === "inactive") return stopped(name, state, without, units);
  const isTransient = unit.active === "activating" || unit.active === "deactivating";
  if (unit.file === "disabled")
    return {
      ok: undefined,
      text: `${state}; it will not start at the next boot: ${atBoot(name)}`,
      hint: "Run: systemctl enable ec2metaproxy",
    };
  return { ok: isTransient ? undefined : true, text: state, hint: "" };
}

/** A proxy that an operator's drop-in starts without --guard does not need one. */
function meaningWithout(name: string, units: readonly Unit[]) {
  const proxy = units.find((one) => one.name === "ec2metaproxy.service");
  if (name === "ec2metaproxy-guard.service" && proxy?.isLoaded === true && !proxy.followsGuard)
    return { ok: undefined, means: "ec2metaproxy.service is started without --guard: no address is locked" };
  return withoutUnit[name] ?? { ok: undefined, means: "" };
}

function stopped(
  name: string,
  state: string,
  without: { readonly ok: Finding["ok"]; readonly means: string },
  units: readonly Unit[],
): Judged {
  const hint = "Run: systemctl enable --now ec2metaproxy";
  const isActive = (other: string) => units.some((one) => one.name === other && one.active === "active");
  // A stopped service is started by the first request that comes to its socket.
  if (name === "ec2metaproxy.service" && isActive("ec2metaproxy.socket"))
    return { ok: undefined, text: `${state}; the next request to its socket starts it`, hint };
  return { ok: without.ok, text: `${state}; ${without.means}`, hint };
}

function atBoot(name: string): string {
  return withoutBoot[name] ?? withoutUnit[name]?.means ?? "";
}
