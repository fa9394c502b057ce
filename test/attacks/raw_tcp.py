"""A TCP client of its own over a Wire, from any address, port and MAC: the kernel knows nothing of its connections."""
import random
import time

from frames import ACK, FIN, IPV4, IPV6, PSH, RST, SYN, tcp

RESEND_SECONDS = 0.25
MASK = 0xFFFFFFFF


class Connection:
    """`hears`: the wire on which answers arrive, where that is another than the one that is spoken on."""

    def __init__(self, wire, source, target, source_mac, target_mac, hears=None):
        self.wire, self.hears = wire, hears or wire
        self.source, self.target = source, target  # (address, port)
        self.source_mac, self.target_mac = source_mac, target_mac
        self.sequence = random.getrandbits(32)
        self.expected = 0
        self.state = "closed"
        self.received = b""
        self.ended = False
        self.acknowledged = self.sequence
        self.challenge = None
        self.hears.connections[source + target] = self

    def _send(self, flags, data=b"", sequence=None):
        packet = tcp(*self.source, *self.target, self.sequence if sequence is None else sequence, self.expected, flags, data)
        self.wire.send(self.target_mac, self.source_mac, IPV6 if ":" in self.source[0] else IPV4, packet)

    def take(self, segment):
        if segment.flags & RST:
            if self.state != "adopted" or segment.sequence == self.expected:
                self.state = "reset"
            return
        if self.state == "opening":
            if segment.flags & SYN and segment.acknowledged == (self.sequence + 1) & MASK:
                self.sequence = self.acknowledged = segment.acknowledged
                self.expected = (segment.sequence + 1) & MASK
                self.state = "open"
                self._send(ACK)
            elif not segment.flags & SYN:
                # The other end has this connection already, with somebody else, and tells where in it it is (RFC 5961).
                self.challenge = (segment.sequence, segment.acknowledged)
            return
        if self.state != "open":
            return
        if segment.flags & ACK and (segment.acknowledged - self.acknowledged) & MASK < 1 << 31:
            self.acknowledged = segment.acknowledged
        known = (self.expected - segment.sequence) & MASK
        new = segment.data[known:] if known < 1 << 31 else b""
        if known <= len(segment.data):
            self.received += new
            self.expected = (self.expected + len(new)) & MASK
            if segment.flags & FIN and not self.ended:
                self.ended = True
                self.expected = (self.expected + 1) & MASK
        if segment.data or segment.flags & (FIN | SYN):
            self._send(ACK)

    def open(self, seconds):
        self.state = "opening"
        end = time.monotonic() + seconds
        while self.state == "opening" and self.challenge is None and time.monotonic() < end:
            self._send(SYN)
            self.hears.pump(RESEND_SECONDS, lambda: self.state != "opening" or self.challenge is not None)
        return self.state == "open"

    def adopt(self):
        """Goes on with somebody else's connection, where the challenge says that it stands."""
        self.expected, self.sequence = self.challenge
        self.acknowledged = self.sequence
        self.state = "open"

    def say(self, data, seconds, until):
        """Sends, and waits until `until()` or the end of the connection."""
        end = time.monotonic() + seconds
        begun, self.sequence = self.sequence, (self.sequence + len(data)) & MASK
        while self.state == "open" and not until() and not self.ended and time.monotonic() < end:
            if self.acknowledged != self.sequence:
                self._send(ACK | PSH, data, begun)
            self.hears.pump(RESEND_SECONDS, lambda: until() or self.ended or self.state != "open")

    def abort(self):
        """Both ends forget it at once: the same ports are free for another try."""
        if self.state == "open":
            self._send(RST | ACK)
        self.state = "closed"
        self.hears.connections.pop(self.source + self.target, None)
