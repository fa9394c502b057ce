import type { Problem } from "../errors.ts";
import type { Run } from "./command.ts";
import type { HostAccess } from "./settings.ts";

/** The proxy itself queries IMDS, for the host's credentials and for the requests that it forwards. */
const serviceUser = "ec2metaproxy";

export type HostUids =
  /** Ascending; undefined if every user has access. */
  | { readonly ok: true; readonly uids: readonly number[] | undefined }
  /** The users that do not exist. */
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** Looks up the uids of the users in HOST_ACCESS, and adds the proxy's own. */
export async function uidsOf(run: Run, hostAccess: HostAccess): Promise<HostUids> {
  if (hostAccess.kind === "all") return { ok: true, uids: undefined };
  const uids = new Set<number>();
  const problems: Problem[] = [];
  for (const user of hostAccess.users) {
    const uid = /^\d+$/.test(user) ? Number(user) : await uidOf(run, user);
    if (uid !== undefined && uid < 2 ** 32 - 1) uids.add(uid);
    else {
      const hint = "Write a user name or uid, or create the user first.";
      problems.push({
        where: hostAccess.where,
        message: `HOST_ACCESS: there is no user "${user}" on this host`,
        hint,
      });
    }
  }
  if (problems.length > 0) return { ok: false, problems };
  const own = await uidOf(run, serviceUser);
  if (own !== undefined) uids.add(own);
  return { ok: true, uids: [...uids].sort((a, b) => a - b) };
}

/** Uses id(1), which also looks in LDAP and other NSS sources. */
async function uidOf(run: Run, user: string): Promise<number | undefined> {
  const outcome = await run("id", ["-u", "--", user]);
  return outcome.kind === "ran" && outcome.exitCode === 0 ? Number(outcome.stdout) : undefined;
}
