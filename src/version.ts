/** What the build writes into the executable (`scripts/build.ts`); absent when run from source. */
declare const __EC2METAPROXY_BUILD__: { readonly version: string; readonly commit: string } | undefined;

const build =
  typeof __EC2METAPROXY_BUILD__ === "undefined"
    ? { version: "0.0.0-source", commit: "unknown" }
    : __EC2METAPROXY_BUILD__;

export const version = build.version;

/** `ec2metaproxy 1.0.0 (commit 1a2b3c4, node 26.10.0)`. */
export function versionLine(nodeVersion: string): string {
  return `ec2metaproxy ${build.version} (commit ${build.commit}, node ${nodeVersion.replace(/^v/, "")})`;
}
