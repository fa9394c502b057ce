import { type SpawnSyncOptions, spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import t from "tap";
import type { ListenVariables } from "../../../src/systemd/listen-fds.ts";

const listenFds = new URL("../../../src/systemd/listen-fds.ts", import.meta.url).href;

/**
 * What `inheritedSockets` returns in a new process with `fds` as descriptors from 3 on. `self` stands for its
 * pid.
 */
function inChild(variables: Partial<ListenVariables>, fds: readonly ("pipe" | number)[]): unknown {
  const program = `
    import { inheritedSockets } from ${JSON.stringify(listenFds)};
    const variables = ${JSON.stringify(variables)};
    if (variables.listenPid === "self") variables.listenPid = String(process.pid);
    try {
      console.log(JSON.stringify(inheritedSockets(variables, process.pid)));
    } catch (error) {
      console.log(JSON.stringify({ refused: error.message, exitCode: error.exitCode }));
    }`;
  const options: SpawnSyncOptions = { stdio: ["ignore", "pipe", "inherit", ...fds] };
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], options);
  return JSON.parse(String(stdout));
}

// A "pipe" of node:child_process is one end of a socket pair, so it is a socket to the child.
const cases: readonly {
  readonly name: string;
  readonly variables: Partial<ListenVariables>;
  readonly fds: readonly "pipe"[];
  readonly expected: unknown;
}[] = [
  { name: "a process that systemd did not start has none", variables: {}, fds: [], expected: [] },
  {
    name: "sockets for another process are not ours",
    variables: { listenPid: "1", listenFds: "1" },
    fds: ["pipe"],
    expected: [],
  },
  {
    name: "one socket has the name that systemd gives it",
    variables: { listenPid: "self", listenFds: "1", listenFdNames: "ec2metaproxy.socket" },
    fds: ["pipe"],
    expected: [{ fd: 3, name: "ec2metaproxy.socket" }],
  },
  {
    name: "two sockets come in order, a missing name is unknown",
    variables: { listenPid: "self", listenFds: "2", listenFdNames: "first" },
    fds: ["pipe", "pipe"],
    expected: [
      { fd: 3, name: "first" },
      { fd: 4, name: "unknown" },
    ],
  },
  {
    name: "a count of 0 is none",
    variables: { listenPid: "self", listenFds: "0" },
    fds: [],
    expected: [],
  },
  {
    name: "a count that is not a number is refused",
    variables: { listenPid: "self", listenFds: "1x" },
    fds: ["pipe"],
    expected: {
      refused: 'taking the sockets from systemd: LISTEN_FDS is "1x", not a number',
      exitCode: 78,
    },
  },
];

for (const { name, variables, fds, expected } of cases) {
  t.test(name, async (t) => {
    t.same(inChild(variables, fds), expected);
  });
}

t.test("a descriptor that is not a socket is refused", async (t) => {
  const file = openSync("/dev/null", "r");
  t.teardown(() => closeSync(file));
  t.same(inChild({ listenPid: "self", listenFds: "1" }, [file]), {
    refused: "taking the sockets from systemd: fd 3 is not a socket",
    exitCode: 78,
  });
});
