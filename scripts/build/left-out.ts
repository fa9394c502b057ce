import type { Plugin } from "esbuild";

/**
 * Packages that a dependency imports at load time and that this product never uses. They would nearly double
 * the bundle, and `ssh2` would search for a native addon at each start. The reason is part of the error on
 * use.
 */
const leftOut: Readonly<Record<string, string>> = {
  "@aws-sdk/credential-provider-node":
    "the SDK's own search for credentials; every call is signed with the keys that it is given",
  "@grpc/grpc-js": "BuildKit sessions of dockerode; no image is built here",
  "@grpc/proto-loader": "BuildKit sessions of dockerode; no image is built here",
  protobufjs: "BuildKit progress messages of dockerode; no image is built here",
  ssh2: "Docker engines over ssh://; dockerHost is a unix socket or tcp with TLS",
  "tar-fs": "build contexts of dockerode; no image is built here",
  "thread-stream": "pino's transports in worker threads; the log is written by this process",
};

/** Names that ES modules import. esbuild copies only the properties that a CommonJS module has itself. */
const imported: Readonly<Record<string, readonly string[]>> = {
  "@aws-sdk/credential-provider-node": ["defaultProvider"],
};

/** Replaces each of them with a module that loads, and throws when one of its functions is called. */
export const leaveOut: Plugin = {
  name: "leave-out",
  setup(build) {
    const names = Object.keys(leftOut).map((name) => name.replace(/[/-]/g, "\\$&"));
    build.onResolve({ filter: new RegExp(`^(${names.join("|")})$`) }, ({ path }) => ({
      path,
      namespace: "left-out",
    }));
    build.onLoad({ filter: /.*/, namespace: "left-out" }, ({ path }) => ({
      contents: stub(path, leftOut[path] ?? "", imported[path] ?? []),
      loader: "js",
    }));
  },
};

/**
 * docker-modem reads `require("ssh2").Client` at load time, so a property must be a stub too. Only a call
 * throws.
 */
function stub(name: string, reason: string, names: readonly string[]): string {
  const message = `${name} is left out of this executable (${reason})`;
  return `
    const refuse = () => { throw new Error(${JSON.stringify(message)}); };
    const names = Object.fromEntries(${JSON.stringify(names)}.map((name) => [name, refuse]));
    const stub = new Proxy(Object.assign(function () {}, names), {
      get: (target, key) => (key in target ? target[key] : typeof key === "symbol" || key === "__esModule" ? undefined : stub),
      apply: refuse,
      construct: refuse,
    });
    module.exports = stub;`;
}
