/** An architecture that we build for, by its name in each tool. */
export type Target = {
  /** Node's and npm's name. */
  readonly arch: "x64" | "arm64";
  /** Debian's and nfpm's name. */
  readonly debian: "amd64" | "arm64";
  /** RPM's and the kernel's name. */
  readonly rpm: "x86_64" | "aarch64";
  /** Whether it is this machine's architecture. */
  readonly native: boolean;
  /** Prefix of binutils and compilers; empty for this machine. */
  readonly toolchain: string;
};

const targets = {
  x64: { arch: "x64", debian: "amd64", rpm: "x86_64", triplet: "x86_64-linux-gnu-" },
  arm64: { arch: "arm64", debian: "arm64", rpm: "aarch64", triplet: "aarch64-linux-gnu-" },
} as const;

/** Accepts `x64`, `amd64`, `x86_64`, `arm64` and `aarch64`; empty or undefined is this machine. */
export function target(name: string | undefined): Target {
  const wanted = name === undefined || name === "" ? process.arch : name;
  for (const { triplet, ...known } of Object.values(targets)) {
    if (![known.arch, known.debian, known.rpm].some((word) => word === wanted)) continue;
    const native = known.arch === process.arch;
    return { ...known, native, toolchain: native ? "" : triplet };
  }
  throw new Error(`choosing the architecture: unknown ARCH=${wanted}; use x64 or arm64`);
}

/** The output folder of a build: `dist/` for this machine, `dist/arm64/` for another. */
export function outputFolder(dist: string, of: Target): string {
  return of.native ? dist : `${dist}/${of.arch}`;
}
