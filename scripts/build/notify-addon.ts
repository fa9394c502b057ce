import { copyFileSync, cpSync, rmSync } from "node:fs";
import type { NodePackage } from "./node-package.ts";
import { run } from "./run.ts";
import type { Target } from "./target.ts";

/**
 * Builds sd-notify's addon against the headers of the Node in the executable, in a copy: node_modules stays
 * unchanged. Needs python3, make, g++ and libsystemd's headers for the target's architecture
 * (`scripts/setup`, with `--arm64` for the other one).
 */
export function buildNotifyAddon(
  root: string,
  folder: string,
  node: NodePackage,
  of: Target,
  to: string,
): void {
  rmSync(folder, { recursive: true, force: true });
  cpSync(`${root}/node_modules/sd-notify`, folder, {
    recursive: true,
    filter: (path) => !path.endsWith("/build"),
  });
  const compilers = {
    CC: `${of.toolchain}gcc`,
    CXX: `${of.toolchain}g++`,
    AR: `${of.toolchain}ar`,
    LINK: `${of.toolchain}g++`,
    // -ffile-prefix-map: the build folder would be in the debug information, and so in the build id.
    // -Wno-cast-function-type: the cast is in Node's header.
    CXXFLAGS: `-ffile-prefix-map=${folder}=. -Wno-cast-function-type`,
    LDFLAGS: "-Wl,-z,relro,-z,now",
  };
  run(
    `${root}/node_modules/.bin/node-gyp`,
    ["rebuild", `--nodedir=${node.folder}`, `--arch=${of.arch}`, "--loglevel=warn"],
    {
      cwd: folder,
      env: of.native ? { ...compilers, CC: "gcc", CXX: "g++", AR: "ar", LINK: "g++" } : compilers,
    },
  );
  copyFileSync(`${folder}/build/Release/notify.node`, to);
  run(`${of.toolchain}strip`, ["--strip-unneeded", "--remove-section=.comment", to]);
}
