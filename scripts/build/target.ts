/** A processor that we build for, as each of the tools names it. */
export type Target = {
  /** Node's and npm's word. */
  readonly arch: "x64" | "arm64";
  /** Debian's word, and nfpm's. */
  readonly debian: "amd64" | "arm64";
  /** RPM's word, and the kernel's. */
  readonly rpm: "x86_64" | "aarch64";
  /** Whether this machine can run what is built. */
  readonly native: boolean;
  /** Prefix of the binutils and compilers; empty for this machine's own. */
  readonly toolchain: string;
};

const targets = {
  x64: { arch: "x64", debian: "amd64", rpm: "x86_64", triplet: "x86_64-linux-gnu-" },
  arm64: { arch: "arm64", debian: "arm64", rpm: "aarch64", triplet: "aarch64-linux-gnu-" },
} as const;

/** `x64`, `amd64`, `x86_64`, `arm64` and `aarch64` all name one; empty or absent is this machine. */
export function target(name: string | undefined): Target {
  const wanted = name === undefined || name === "" ? process.arch : name;
  for (const { triplet, ...known } of Object.values(targets)) {
    if (![known.arch, known.debian, known.rpm].some((word) => word === wanted)) continue;
    const native = known.arch === process.arch;
    return { ...known, native, toolchain: native ? "" : triplet };
  }
  throw new Error(`choosing what to build for: ARCH=${wanted} is not known; write x64 or arm64`);
}

/** What a build leaves: `dist/` for this machine, `dist/arm64/` for another. */
export function outputFolder(dist: string, of: Target): string {
  return of.native ? dist : `${dist}/${of.arch}`;
}
