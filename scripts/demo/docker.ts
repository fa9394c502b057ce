import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Outcome } from "./imds-client.ts";
import { outcomeOf } from "./imds-client.ts";

const run = promisify(execFile);
const timeout = 60_000;
const docker = async (...args: readonly string[]) =>
  (await run("docker", [...args], { timeout })).stdout.trim();

/** Real containers for the demo, and their image. Both are removed on disposal. */
export type DemoContainers = AsyncDisposable & {
  run(name: string, args: readonly string[]): Promise<void>;
  /** Sends an SDK's requests from inside the container, with its busybox. */
  fetchCredentials(name: string, port: number): Promise<Outcome>;
};

/** The local engine, or the reason why it cannot be used. */
export async function openDocker(): Promise<DemoContainers | string> {
  const names: string[] = [];
  try {
    await docker("version", "--format={{.Server.Version}}");
  } catch {
    return "no Docker engine is available";
  }
  const image = `ec2metaproxy-demo-${process.pid}`;
  try {
    await makeImage(image);
  } catch (error) {
    return `no image for a container (${error instanceof Error ? error.message.split("\n")[0] : String(error)})`;
  }
  const fullName = (name: string) => `${image}-${name}`;
  // The host's address on the container's bridge, where the proxy can be reached without a firewall rule.
  const gatewayOf = (name: string) =>
    docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", fullName(name));
  return {
    run: async (name, args) => {
      names.push(fullName(name));
      await docker(
        "run",
        "--detach",
        "--init",
        `--name=${fullName(name)}`,
        ...args,
        image,
        "/bin/sleep",
        "300",
      );
    },
    fetchCredentials: async (name, port) => {
      const gateway = await gatewayOf(name);
      return outcomeOf(async (method, path, headers) => {
        const lines = [
          `${method} ${path} HTTP/1.0`,
          ...Object.entries(headers).map(([key, value]) => `${key}: ${value}`),
          "",
          "",
        ];
        // Keep the pipe open until the answer arrives: the proxy drops a client that half-closes.
        const script = `(printf '%s' "$1"; sleep 1) | nc ${gateway} ${port}`;
        const answer = await docker(
          "exec",
          fullName(name),
          "/bin/sh",
          "-c",
          script,
          "ask",
          lines.join("\r\n"),
        );
        const status = /^HTTP\/1\.\d (\d{3})/.exec(answer)?.[1];
        return { status: Number(status), body: answer.slice(answer.indexOf("\r\n\r\n") + 4) };
      });
    },
    [Symbol.asyncDispose]: async () => {
      if (names.length > 0) await docker("rm", "--force", ...names);
      await docker("rmi", "--force", image);
    },
  };
}

/** An image with a static busybox: this machine's, or the registry's. */
async function makeImage(image: string): Promise<void> {
  const busybox = ["/usr/bin/busybox", "/bin/busybox"].find((path) => existsSync(path));
  if (busybox === undefined) {
    await docker("pull", "--quiet", "busybox:latest");
    await docker("tag", "busybox:latest", image);
    return;
  }
  const folder = await mkdtemp(join(tmpdir(), "ec2metaproxy-image-"));
  try {
    const bin = join(folder, "root/bin");
    await mkdir(bin, { recursive: true });
    await copyFile(busybox, join(bin, "busybox"));
    for (const applet of ["sh", "sleep", "nc"]) await symlink("busybox", join(bin, applet));
    await run("tar", ["-C", join(folder, "root"), "-cf", join(folder, "image.tar"), "."], { timeout });
    await docker("import", join(folder, "image.tar"), image);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
