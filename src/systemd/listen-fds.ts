import { fstatSync } from "node:fs";
import { exitCodes, OperatorError } from "../errors.ts";

/** What systemd says about the sockets that it hands over, as it stands in the environment (sd_listen_fds(3)). */
export type ListenVariables = {
  /** LISTEN_PID: whom they are for. */
  readonly listenPid: string | undefined;
  /** LISTEN_FDS: how many. */
  readonly listenFds: string | undefined;
  /** LISTEN_FDNAMES: their FileDescriptorName=, with colons between them. */
  readonly listenFdNames: string | undefined;
};

export type InheritedSocket = {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit; the unit's name where that is not set, `unknown` before systemd 227. */
  readonly name: string;
};

/** SD_LISTEN_FDS_START: 0 to 2 are the standard streams. */
const firstFd = 3;

/**
 * The sockets that systemd opened for this process, in the order of its ListenStream= lines; none when it was started in another way.
 * The variables are inherited by children too, so they count only where LISTEN_PID is this process.
 */
export function inheritedSockets(variables: ListenVariables, pid: number): readonly InheritedSocket[] {
  const { listenPid, listenFds, listenFdNames } = variables;
  if (listenPid === undefined || listenFds === undefined || listenPid !== String(pid)) return [];
  if (!/^\d{1,4}$/.test(listenFds)) throw unusable(`LISTEN_FDS is "${listenFds}", not a number`);
  const names = listenFdNames?.split(":") ?? [];
  return Array.from({ length: Number(listenFds) }, (_, index) => {
    const fd = firstFd + index;
    if (!isSocket(fd)) throw unusable(`fd ${fd} is no socket`);
    return { fd, name: names[index] ?? "unknown" };
  });
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch (cause) {
    throw unusable(`looking at fd ${fd}`, cause);
  }
}

function unusable(message: string, cause?: unknown): OperatorError {
  return new OperatorError(`taking the sockets from systemd: ${message}`, {
    exitCode: exitCodes.configuration,
    hint: "Compare ec2metaproxy.socket with the packaged one: systemctl cat ec2metaproxy.socket",
    cause,
  });
}
