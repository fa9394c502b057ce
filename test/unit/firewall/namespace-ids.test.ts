import { mkdir, readdir, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import type { Outcome } from "../../../src/firewall/command.ts";
import { readNamespaceIds } from "../../../src/firewall/namespace-ids.ts";

/** A folder in which `ip netns list` finds what `idOf` says of each file. */
async function host(t: { testdir(): string }, idOf: (file: string) => number | undefined) {
  const folder = join(t.testdir(), "netns");
  const seen: string[] = [];
  const run = async (): Promise<Outcome> => {
    const names = await readdir(folder);
    const listed = names.map(async (name) => {
      const file = await readlink(join(folder, name)).catch(() => "");
      seen.push(file);
      return { name, id: idOf(file) };
    });
    return { kind: "ran", exitCode: 0, stdout: JSON.stringify(await Promise.all(listed)), stderr: "" };
  };
  return { folder, seen, run };
}

t.test("each process has a link in ip's folder as long as ip runs", async (t) => {
  const { folder, seen, run } = await host(t, (file) => (file.includes("/2/") ? undefined : 7));
  const ids = await readNamespaceIds({ run, procRoot: "/proc", folder }, [1, 2, 1]);
  t.same([...ids], [[1, 7]], "a namespace without an id is the host's, or gone");
  t.same(seen.toSorted(), ["/proc/1/ns/net", "/proc/2/ns/net"]);
  t.same(await readdir(folder), []);
});

t.test("namespaces of others, and what a killed guard has left, do no harm", async (t) => {
  const { folder, run } = await host(t, (file) => (file === "/proc/1/ns/net" ? 7 : 8));
  await mkdir(folder);
  await writeFile(join(folder, "cni-1"), "");
  await symlink("/proc/99/ns/net", join(folder, `ec2metaproxy-${process.pid}-1`));
  t.same([...(await readNamespaceIds({ run, procRoot: "/proc", folder }, [1]))], [[1, 7]]);
  t.same(await readdir(folder), ["cni-1"]);
});

t.test("a process whose first thread has ended is found by another one", async (t) => {
  const { folder, seen, run } = await host(t, () => 7);
  const procRoot = join(folder, "../proc");
  await mkdir(join(procRoot, "5/ns"), { recursive: true });
  for (const task of ["5", "6"]) await mkdir(join(procRoot, "5/task", task, "ns"), { recursive: true });
  await symlink("net:[1]", join(procRoot, "5/task/6/ns/net"));
  t.same([...(await readNamespaceIds({ run, procRoot, folder }, [5]))], [[5, 7]]);
  t.same(seen, [join(procRoot, "5/task/6/ns/net")]);
});

t.test("nothing is run for no process; a failure says what failed", async (t) => {
  const run = async (): Promise<Outcome> => ({ kind: "ran", exitCode: 1, stdout: "", stderr: "no memory" });
  const folder = join(t.testdir(), "netns");
  t.equal((await readNamespaceIds({ run, procRoot: "/proc", folder }, [])).size, 0);
  await t.rejects(readNamespaceIds({ run, procRoot: "/proc", folder }, [1]), {
    message: "reading the network namespaces: ip: no memory",
  });
  t.same(await readdir(folder), []);
});
