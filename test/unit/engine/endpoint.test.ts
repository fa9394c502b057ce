import t from "tap";
import { parseDockerHost } from "../../../src/engine/endpoint.ts";
import { exitCodes, OperatorError } from "../../../src/errors.ts";

const usable = [
  ["unix:///var/run/docker.sock", false, { kind: "unix", socketPath: "/var/run/docker.sock" }],
  ["/run/podman/podman.sock", false, { kind: "unix", socketPath: "/run/podman/podman.sock" }],
  ["tcp://10.0.0.1:2375", false, { kind: "tcp", host: "10.0.0.1", port: 2375, tls: false }],
  ["tcp://10.0.0.1", false, { kind: "tcp", host: "10.0.0.1", port: 2375, tls: false }],
  ["tcp://10.0.0.1", true, { kind: "tcp", host: "10.0.0.1", port: 2376, tls: true }],
  ["tcp://docker.internal:80", false, { kind: "tcp", host: "docker.internal", port: 80, tls: false }],
  ["http://127.0.0.1:2375/", true, { kind: "tcp", host: "127.0.0.1", port: 2375, tls: false }],
  ["https://10.0.0.1", false, { kind: "tcp", host: "10.0.0.1", port: 2376, tls: true }],
  ["127.0.0.1:2375", false, { kind: "tcp", host: "127.0.0.1", port: 2375, tls: false }],
  ["tcp://[fd00::1]:2375", false, { kind: "tcp", host: "fd00::1", port: 2375, tls: false }],
] as const;
for (const [text, hasTlsFiles, expected] of usable) {
  t.test(`${text}${hasTlsFiles ? " with TLS files" : ""} is parsed`, async (t) => {
    t.same(parseDockerHost(text, hasTlsFiles), expected);
  });
}

const unusable = [
  ["", /no host/],
  ["unix://", /not absolute/],
  ["unix://docker.sock", /not absolute/],
  [`/${"x".repeat(107)}`, /107 bytes/],
  ["ssh://host", /ssh:\/\/ is not supported/],
  ["npipe:////./pipe/docker_engine", /npipe:\/\/ is not supported/],
  ["tcp://", /no host/],
  ["tcp://host:99999", /no host/],
  ["tcp://host:2375/path", /more than a host and a port/],
  ["tcp://user@host:2375", /more than a host and a port/],
] as const;
for (const [text, why] of unusable) {
  t.test(`${JSON.stringify(text.slice(0, 40))} is rejected with a hint`, async (t) => {
    const refused = t.throws(() => parseDockerHost(text, false), why);
    t.ok(
      refused instanceof OperatorError && refused.exitCode === exitCodes.configuration && refused.hint !== "",
    );
  });
}
