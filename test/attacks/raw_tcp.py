"""A TCP client over a Wire, with any address, port and MAC. The kernel is not involved and does not know its connections."""
import random
import time

from frames import ACK, FIN, IPV4, IPV6, PSH, RST, SYN, tcp

RESEND_SECONDS = 0.25
MASK = 0xFFFFFFFF


class Connection:
    """`receiver`: the wire on which answers arrive, if it is not the one to send on."""

    def __init__(self, wire, source, target, source_mac, target_mac, receiver=None):
        self.wire, self.receiver = wire, receiver or wire
        self.source, self.target = source, target  # (address, port)
        self.source_mac, self.target_mac = source_mac, target_mac
        self.sequence = random.getrandbits(32)
        self.expected = 0
        self.state = "closed"
        self.received = b""
        self.ended = False
        self.acknowledged = self.sequence
        self.challenge = None
        self.receiver.connections[source + target] = self

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
                # A challenge ACK (RFC 5961): the other end has this connection already, with somebody else.
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
            self.receiver.pump(RESEND_SECONDS, lambda: self.state != "opening" or self.challenge is not None)
        return self.state == "open"

    def adopt(self):
        """Continues somebody else's connection at the sequence numbers of the challenge ACK."""
        self.expected, self.sequence = self.challenge
        self.acknowledged = self.sequence
        self.state = "open"

    def exchange(self, data, seconds, until):
        """Sends `data` and waits until `until()`, the end of the connection, or the time limit."""
        end = time.monotonic() + seconds
        start, self.sequence = self.sequence, (self.sequence + len(data)) & MASK
        while self.state == "open" and not until() and not self.ended and time.monotonic() < end:
            if self.acknowledged != self.sequence:
                self._send(ACK | PSH, data, start)
            self.receiver.pump(RESEND_SECONDS, lambda: until() or self.ended or self.state != "open")

    def abort(self):
        """Resets the connection, so that the same ports are free at once."""
        if self.state == "open":
            self._send(RST | ACK)
        self.state = "closed"
        self.receiver.connections.pop(self.source + self.target, None)
