"""Packs and parses Ethernet, VLAN, ARP, IPv4, IPv6, neighbour discovery and TCP, with any source. Pure functions."""
import ipaddress
import struct

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
BROADCAST = "ff:ff:ff:ff:ff:ff"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def mac_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw):
    return ":".join("%02x" % byte for byte in raw)


def packed(address):
    return ipaddress.ip_address(address).packed


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def pseudo_header(source, target, protocol, length):
    """The pseudo-header that the checksums of TCP and ICMPv6 include."""
    source, target = packed(source), packed(target)
    if len(source) == 4:
        return source + target + struct.pack("!BBH", 0, protocol, length)
    return source + target + struct.pack("!IHBB", length, 0, 0, protocol)


def ethernet(target, source, kind, payload, tags=()):
    """`tags`: (ethertype, VLAN id), outermost first. Id 0 is a priority tag, which Linux treats as untagged."""
    labels = b"".join(struct.pack("!HH", ethertype, vlan) for ethertype, vlan in tags)
    return mac_bytes(target) + mac_bytes(source) + labels + struct.pack("!H", kind) + payload


def arp(operation, sender_mac, sender, target_mac, target, hardware=1):
    """`hardware` 6 is IEEE 802: Linux treats it as Ethernet, packet filters may not."""
    head = struct.pack("!HHBBH", hardware, IPV4, 6, 4, operation)
    return head + mac_bytes(sender_mac) + packed(sender) + mac_bytes(target_mac) + packed(target)


def ip(source, target, protocol, payload, hops=64):
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + packed(source) + packed(target) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, hops, protocol, 0)
    head += packed(source) + packed(target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def icmpv6(source, target, kind, body):
    message = struct.pack("!BBH", kind, 0, 0) + body
    total = checksum(pseudo_header(source, target, 58, len(message)) + message)
    # Neighbour discovery is only accepted with a hop limit of 255.
    return ip(source, target, 58, message[:2] + struct.pack("!H", total) + message[4:], hops=255)


def neighbour_solicitation(source, target, wanted, mac):
    """Solicits `wanted`, and announces that `source` is at `mac`: the receiver caches that."""
    return icmpv6(source, target, 135, bytes(4) + packed(wanted) + b"\1\1" + mac_bytes(mac))


def neighbour_advertisement(source, target, claimed, mac):
    """With the flags solicited and override."""
    return icmpv6(source, target, 136, b"\x60\0\0\0" + packed(claimed) + b"\2\1" + mac_bytes(mac))


def tcp(source, source_port, target, target_port, sequence, acknowledged, flags, data=b""):
    options = struct.pack("!BBH", 2, 4, 1400) if flags & SYN else b""
    head = struct.pack(
        "!HHIIBBHHH",
        source_port,
        target_port,
        sequence & 0xFFFFFFFF,
        acknowledged & 0xFFFFFFFF,
        (20 + len(options)) // 4 << 4,
        flags,
        65535,
        0,
        0,
    )
    segment = head + options + data
    total = checksum(pseudo_header(source, target, 6, len(segment)) + segment)
    return ip(source, target, 6, segment[:16] + struct.pack("!H", total) + segment[18:])


class Segment:
    """A received TCP segment."""

    def __init__(self, source, target, raw):
        self.source, self.target = source, target
        self.source_port, self.target_port, self.sequence, self.acknowledged, offset, self.flags = struct.unpack(
            "!HHIIBB", raw[:14]
        )
        self.data = raw[(offset >> 4) * 4 :]


def parse_tcp(kind, payload):
    """The TCP segment in an IP packet, or None. Checksums are not verified: the sender's kernel leaves them to the hardware."""
    if kind == IPV4 and len(payload) >= 40 and payload[9] == 6:
        length = struct.unpack("!H", payload[2:4])[0] or len(payload)
        source, target = (str(ipaddress.IPv4Address(payload[at : at + 4])) for at in (12, 16))
        return Segment(source, target, payload[(payload[0] & 15) * 4 : length])
    if kind == IPV6 and len(payload) >= 60 and payload[6] == 6:
        source, target = (str(ipaddress.IPv6Address(payload[at : at + 16])) for at in (8, 24))
        return Segment(source, target, payload[40 : 40 + struct.unpack("!H", payload[4:6])[0]])
    return None


def with_checksum(kind, payload):
    """A TCP packet without options in its IP header, with the checksum that its sender's kernel left to the hardware."""
    at = 20 if kind == IPV4 else 40
    length = struct.unpack("!H", payload[2:4])[0] if kind == IPV4 else 40 + struct.unpack("!H", payload[4:6])[0]
    addresses = payload[12:20] if kind == IPV4 else payload[8:40]
    source, target = (str(ipaddress.ip_address(one)) for one in (addresses[: len(addresses) // 2], addresses[len(addresses) // 2 :]))
    segment = payload[at : at + 16] + b"\0\0" + payload[at + 18 : length]
    total = checksum(pseudo_header(source, target, 6, len(segment)) + segment)
    return payload[:at] + segment[:16] + struct.pack("!H", total) + segment[18:]
