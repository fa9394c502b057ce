import { fstatSync } from "node:fs";
import { exitCodes, OperatorError } from "../errors.ts";

/** The environment variables that describe the sockets that systemd passes (sd_listen_fds(3)). */
export type ListenVariables = {
  /** LISTEN_PID: the process that they are for. */
  readonly listenPid: string | undefined;
  /** LISTEN_FDS: how many. */
  readonly listenFds: string | undefined;
  /** LISTEN_FDNAMES: their FileDescriptorName=, separated by colons. */
  readonly listenFdNames: string | undefined;
};

export type InheritedSocket = {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit, by default the unit's name; `unknown` before systemd 227. */
  readonly name: string;
};

/** SD_LISTEN_FDS_START: 0 to 2 are the standard streams. */
const firstFd = 3;

/**
 * The sockets that systemd opened for this process, in the order of the unit's ListenStream= lines; none if
 * systemd did not pass any. Children inherit the variables, so they are ignored unless LISTEN_PID is this
 * process.
 */
export function inheritedSockets(variables: ListenVariables, pid: number): readonly InheritedSocket[] {
  const { listenPid, listenFds, listenFdNames } = variables;
  if (listenPid === undefined || listenFds === undefined || listenPid !== String(pid)) return [];
  if (!/^\d{1,4}$/.test(listenFds)) throw unusable(`LISTEN_FDS is "${listenFds}", not a number`);
  const names = listenFdNames?.split(":") ?? [];
  return Array.from({ length: Number(listenFds) }, (_, index) => {
    const fd = firstFd + index;
    if (!isSocket(fd)) throw unusable(`fd ${fd} is not a socket`);
    return { fd, name: names[index] ?? "unknown" };
  });
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch (cause) {
    throw unusable(`inspecting fd ${fd}`, cause);
  }
}

function unusable(message: string, cause?: unknown): OperatorError {
  return new OperatorError(`taking the sockets from systemd: ${message}`, {
    exitCode: exitCodes.configuration,
    hint: "Compare ec2metaproxy.socket with the packaged one: systemctl cat ec2metaproxy.socket",
    cause,
  });
}
