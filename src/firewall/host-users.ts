import type { Problem } from "../errors.ts";
import type { Run } from "./command.ts";
import type { HostAccess } from "./settings.ts";

/** The proxy itself asks IMDS for its host credentials and for what it passes through. */
const serviceUser = "ec2metaproxy";

/** The user numbers of HOST_ACCESS and of the proxy, ascending; undefined where everybody may. Or the users that do not exist. */
export async function uidsOf(
  run: Run,
  hostAccess: HostAccess,
): Promise<readonly number[] | undefined | { readonly problems: readonly Problem[] }> {
  if (hostAccess.kind === "all") return undefined;
  const uids = new Set<number>();
  const problems: Problem[] = [];
  for (const user of hostAccess.users) {
    const uid = /^\d+$/.test(user) ? Number(user) : await uidOf(run, user);
    if (uid !== undefined && uid < 2 ** 32 - 1) uids.add(uid);
    else {
      const hint = "Write a user's name or number, or create the user first.";
      problems.push({
        where: hostAccess.where,
        message: `HOST_ACCESS: there is no user "${user}" on this host`,
        hint,
      });
    }
  }
  if (problems.length > 0) return { problems };
  const own = await uidOf(run, serviceUser);
  if (own !== undefined) uids.add(own);
  return [...uids].sort((a, b) => a - b);
}

/** By id(1), which also asks LDAP and the like. */
async function uidOf(run: Run, user: string): Promise<number | undefined> {
  const outcome = await run("id", ["-u", "--", user]);
  return outcome.kind === "ran" && outcome.exitCode === 0 ? Number(outcome.stdout) : undefined;
}
