"""A network interface below the kernel's IP stack (AF_PACKET: CAP_NET_RAW is enough)."""
import errno
import fcntl
import ipaddress
import select
import socket
import struct
import time

from frames import ARP, BROADCAST, IPV4, IPV6, arp, ethernet, mac_bytes, mac_text, packed, parse_tcp
from frames import neighbour_advertisement, neighbour_solicitation

EVERYTHING = 3  # ETH_P_ALL
OUTGOING = 4  # PACKET_OUTGOING: sent by this machine
ANNOUNCE_SECONDS = 0.1


class Wire:
    def __init__(self, interface, tags=(), arp_hardware=1):
        self.interface, self.tags, self.arp_hardware = interface, tuple(tags), arp_hardware
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
        self.socket.bind((interface, EVERYTHING))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.mac = mac_text(self._ioctl(0x8927)[18:24])  # SIOCGIFHWADDR
        self.address = socket.inet_ntoa(self._ioctl(0x8915)[20:24])  # SIOCGIFADDR
        self.connections = {}
        self.sniffers = []
        self._claims = {}
        self._announced = 0.0

    def _ioctl(self, request):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            return fcntl.ioctl(one, request, struct.pack("256s", self.interface.encode()[:15]))

    def own_ipv6(self):
        """An address of this interface that is not link-local."""
        with open("/proc/net/if_inet6") as table:
            for line in table:
                address, _, _, scope, _, name = line.split()
                if name == self.interface and scope == "00":
                    return str(ipaddress.IPv6Address(bytes.fromhex(address)))
        raise OSError("%s has no IPv6 address" % self.interface)

    def send(self, target_mac, source_mac, kind, payload):
        try:
            self.socket.send(ethernet(target_mac, source_mac, kind, payload, self.tags))
        except BlockingIOError:
            pass  # The queue is full: the same as a lost packet.
        except OSError as error:
            # A packet that the sender's kernel left to be segmented is too long to be passed on: lost as well.
            if error.errno != errno.EMSGSIZE:
                raise

    def resolve(self, address, seconds=3.0):
        """The MAC of an address, resolved with our own addresses."""
        found = []

        def note(kind, payload, source_mac):
            if kind == ARP and payload[14:18] == packed(address):
                found.append(mac_text(payload[8:14]))
            # A neighbour advertisement: the target address follows eight bytes of ICMPv6.
            if kind == IPV6 and payload[6] == 58 and payload[40] == 136 and payload[48:64] == packed(address):
                found.append(source_mac)

        tags, self.tags = self.tags, ()
        self.sniffers.append(note)
        try:
            until = time.monotonic() + seconds
            while not found and time.monotonic() < until:
                if ":" in address:
                    group = ipaddress.IPv6Address(packed("ff02::1:ff00:0")[:13] + packed(address)[13:])
                    question = neighbour_solicitation(self.own_ipv6(), str(group), address, self.mac)
                    self.send("33:33:ff:" + mac_text(packed(address)[13:]), self.mac, IPV6, question)
                else:
                    question = arp(1, self.mac, self.address, "00:00:00:00:00:00", address)
                    self.send(BROADCAST, self.mac, ARP, question)
                self.pump(0.2, lambda: bool(found))
        finally:
            self.sniffers.remove(note)
            self.tags = tags
        if not found:
            raise OSError("no answer for %s on %s" % (address, self.interface))
        return found[0]

    def claim(self, address, mac, listener, listener_mac):
        """Announces to `listener`, and to nobody else, that `address` is at `mac`, and repeats it."""
        self._claims[(address, listener)] = (mac, listener_mac)
        self.tell(address, mac, listener, listener_mac)

    def tell(self, address, mac, listener, listener_mac):
        """The same once."""
        if ":" in address:
            # The solicitation creates an entry where there is none; the advertisement replaces one.
            self.send(listener_mac, mac, IPV6, neighbour_solicitation(address, listener, listener, mac))
            self.send(listener_mac, mac, IPV6, neighbour_advertisement(address, listener, address, mac))
            return
        for wanted in (listener, address):  # The second is gratuitous ARP, which replaces an entry at once.
            question = arp(1, mac, address, "00:00:00:00:00:00", wanted, self.arp_hardware)
            self.send(listener_mac, mac, ARP, question)

    def _answer(self, kind, payload, source_mac):
        """Answers a question for a claimed address, in addition to the real owner."""
        if kind == ARP and payload[6:8] == b"\0\1":
            sender, wanted = payload[14:18], payload[24:28]
        elif kind == IPV6 and payload[6] == 58 and payload[40] == 135:
            sender, wanted = payload[8:24], payload[48:64]
        else:
            return
        for (address, listener), (mac, listener_mac) in self._claims.items():
            if packed(address) == wanted and packed(listener) == sender and mac_bytes(mac) != source_mac:
                if kind == ARP:
                    reply = arp(2, mac, address, listener_mac, listener, self.arp_hardware)
                    self.send(listener_mac, mac, ARP, reply)
                else:
                    self.send(listener_mac, mac, IPV6, neighbour_advertisement(address, listener, address, mac))

    def pump(self, seconds, until=lambda: False):
        """Receives for `seconds`, or until `until()`."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now - self._announced > ANNOUNCE_SECONDS:
                self._announced = now
                for (address, listener), (mac, listener_mac) in self._claims.items():
                    self.tell(address, mac, listener, listener_mac)
            if until() or now >= end:
                return
            if select.select([self.socket], [], [], min(end - now, 0.02))[0]:
                self._receive()

    def _receive(self):
        for _ in range(64):
            try:
                frame, (_, kind, direction, _, _) = self.socket.recvfrom(1 << 17)
            except BlockingIOError:
                return
            if direction == OUTGOING or len(frame) < 42:
                continue
            payload, source_mac = frame[14:], mac_text(frame[6:12])
            for sniffer in self.sniffers:
                sniffer(kind, payload, source_mac)
            if self._claims:
                self._answer(kind, payload, source_mac)
            if kind in (IPV4, IPV6):
                segment = parse_tcp(kind, payload)
                if segment is not None:
                    key = (segment.target, segment.target_port, segment.source, segment.source_port)
                    connection = self.connections.get(key)
                    if connection is not None:
                        connection.take(segment)
