import { createHash } from "node:crypto";
import { access, mkdir, readdir, readFile, rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { runCommand } from "./command.ts";
import { debianMirror } from "./mirror.ts";

/** Debian releases: bookworm has systemd 252 and Docker 20.10, trixie systemd 257 and Docker 26.1. */
export type Suite = "bookworm" | "trixie";

const script = join(import.meta.dirname, "build-root.sh");
const buildTimeoutMs = 20 * 60_000;
const keepUnusedMs = 14 * 24 * 3_600_000;

function cacheDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const own = environment.EC2METAPROXY_TESTHOST_CACHE;
  if (own !== undefined && own !== "") return own;
  return join(environment.XDG_CACHE_HOME || join(homedir(), ".cache"), "ec2metaproxy-testhost");
}

/**
 * The path of a root file system; nobody may write to it. The first call builds it, which takes about two
 * minutes and is logged. Concurrent calls share one build. A build that was killed starts again, with its
 * downloads.
 */
export async function rootFileSystem(suite: Suite, log: (text: string) => void = () => {}): Promise<string> {
  const cache = cacheDirectory();
  const recipe = createHash("sha256")
    .update(await readFile(script))
    .digest("hex")
    .slice(0, 12);
  const final = join(cache, `${suite}-${recipe}`);
  await mkdir(cache, { recursive: true });
  if (!(await exists(final))) {
    log(`building ${final}; this takes about two minutes and is done once`);
    await build(suite, final, cache);
  }
  // The modification time is the time of last use.
  await utimes(final, new Date(), new Date());
  await removeUnused(cache);
  return final;
}

async function build(suite: Suite, final: string, cache: string): Promise<void> {
  const mirror = await debianMirror();
  // All processes of the build inherit the lock, so it is released when the last of them ends.
  const lock = ["flock", "--timeout", String(buildTimeoutMs / 1_000), join(cache, `${suite}.lock`)];
  const isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  // The build may outlive this process, but not for ever.
  const bounded = ["timeout", "--kill-after=10", String(buildTimeoutMs / 1_000)];
  const downloads = join(cache, "downloads", suite);
  await runCommand(
    [
      "nice",
      ...bounded,
      ...lock,
      ...isolated,
      "sh",
      script,
      suite,
      final,
      mirror.uri,
      mirror.keyring,
      downloads,
    ],
    { timeoutMs: buildTimeoutMs + 20_000, env: await buildEnvironment() },
  );
}

/**
 * debootstrap downloads with wget, which does not read apt's configuration: pass apt's proxy, if only apt has
 * one.
 */
async function buildEnvironment(): Promise<NodeJS.ProcessEnv> {
  const { stdout } = await runCommand(["apt-config", "shell", "http_proxy", "Acquire::http::Proxy"], {
    check: false,
  });
  const [, proxy] = /^http_proxy='(.+)'$/m.exec(stdout) ?? [];
  return proxy === undefined ? process.env : { http_proxy: proxy, ...process.env };
}

/** Removes root file systems that no checkout has used for two weeks. */
async function removeUnused(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!/^(bookworm|trixie)-[0-9a-f]{12}$/.test(name)) continue;
    const path = join(cache, name);
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > keepUnusedMs) await rm(path, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
