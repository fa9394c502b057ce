"""The victim: an ordinary server, and a client that keeps a connection to the metadata service open.

Usage: victim.py CONFIG_JSON   {"port": always listens, "once": accepts one connection, closes the listener, then listens again,
"kept": the local port of the kept connection}. Prints one line of JSON for each event. SIGHUP: replaces the kept connection.
SIGUSR1: connects to the metadata service over IPv6, and sends nothing.
"""
import json
import selectors
import signal
import socket
import struct
import sys
import time

METADATA = ("169.254.169.254", 80)
METADATA6 = ("fd00:ec2::254", 80)
HELD_SECONDS = 20.0


def log(**event):
    print(json.dumps(event), flush=True)


def listener(port):
    """Dual-stack, as most servers are."""
    one = socket.socket(socket.AF_INET6)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("::", port))
    one.listen(64)
    return one


class Victim:
    def __init__(self, config):
        self.config = config
        self.selector = selectors.DefaultSelector()
        self.held = {}
        self.kept = None
        self.retry = 0.0
        self.serve(listener(config["port"]), self.accept)
        self.once = None
        signal.signal(signal.SIGHUP, lambda *_: self.renew())
        signal.signal(signal.SIGUSR1, lambda *_: self.connect6())

    def serve(self, sock, callback):
        self.selector.register(sock, selectors.EVENT_READ, callback)

    def hold(self, sock):
        self.held[sock] = time.monotonic()
        self.serve(sock, self.read)

    def accept(self, sock):
        self.hold(sock.accept()[0])

    def accept_once(self, sock):
        one = sock.accept()[0]
        self.selector.unregister(sock)
        sock.close()
        self.hold(one)

    def read(self, sock):
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.drop(sock)

    def drop(self, sock):
        self.selector.unregister(sock)
        self.held.pop(sock, None)
        if sock is self.kept:
            self.kept = None
        sock.close()

    def connect6(self):
        sock = socket.socket(socket.AF_INET6)
        sock.setblocking(False)
        sock.connect_ex(METADATA6)
        self.hold(sock)

    def renew(self):
        if self.kept is not None:
            self.drop(self.kept)
        self.retry = 0.0

    def keep(self):
        """Always from the same port: a busy client reuses a port soon."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Close with a reset, so that the port is free at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.settimeout(2)
        self.retry = time.monotonic() + 0.5
        try:
            sock.bind(("0.0.0.0", self.config["kept"]))
            sock.connect(METADATA)
            request = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 300\r\nContent-Length: 0\r\n\r\n"
            sock.sendall(request.encode())
            answer = sock.recv(65536).decode("latin1")
        except OSError as error:
            log(kept=False, error=str(error))
            sock.close()
            return
        log(kept=True, port=self.config["kept"], status=answer.split("\r\n")[0])
        self.kept = sock
        self.serve(sock, self.read)

    def run(self):
        log(ready=True)
        while True:
            now = time.monotonic()
            if self.kept is None and now >= self.retry:
                self.keep()
            holding = [sock for sock in self.held if sock.getsockname()[1] == self.config["once"]]
            if not holding and (self.once is None or self.once.fileno() == -1):
                self.once = listener(self.config["once"])
                self.serve(self.once, self.accept_once)
            for sock in [sock for sock, since in self.held.items() if now - since > HELD_SECONDS]:
                self.drop(sock)
            for key, _ in self.selector.select(0.05):
                key.data(key.fileobj)


Victim(json.loads(sys.argv[1])).run()
