"""Sends forged frames: forge.py INTERFACE, with a line `KIND KEY=VALUE...` per frame on standard input.

KIND: arp, na, ns, syn, ra, redirect, odd (no protocol that anybody knows). Keys: source, target, about (addresses), to (MAC),
from (MAC, the interface's own by default), port, tags (`8100:0,88a8:5`), hardware and
operation (of ARP), options (`hop`, `destination`: an extension header before what IPv6 carries), next (the router that a redirect
names), vxlan (the address of the other end: the frame goes inside a packet, from MAC 02:77:00:00:00:77, network 42).
"""
import socket
import struct
import sys

interface = sys.argv[1]
own = open("/sys/class/net/%s/address" % interface).read().strip()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
tunnel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
options = {"hop": 0, "destination": 60}


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data):
    total = sum(struct.unpack("!%dH" % ((len(data) + 1) // 2), data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv6(fields, protocol, payload, offset):
    source, target = packed(fields["source"]), packed(fields["target"])
    pseudo = source + target + struct.pack("!II", len(payload), protocol)
    payload = payload[:offset] + struct.pack("!H", checksum(pseudo + payload)) + payload[offset + 2 :]
    first = protocol
    if "options" in fields:
        # Padding of six bytes (PadN) fills the extension header.
        payload = struct.pack("!BBBB4x", protocol, 0, 1, 4) + payload
        first = options[fields["options"]]
    return 0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), first, 255) + source + target + payload


def ipv4(fields, protocol, payload, offset):
    source, target = packed(fields["source"]), packed(fields["target"])
    pseudo = source + target + struct.pack("!HH", protocol, len(payload))
    payload = payload[:offset] + struct.pack("!H", checksum(pseudo + payload)) + payload[offset + 2 :]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source + target
    return 0x0800, header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def packet(kind, fields):
    if kind == "odd":
        return 0x88B5, b"\0" * 46
    if kind == "arp":
        fixed = struct.pack("!HHBBH", int(fields.get("hardware", 1)), 0x0800, 6, 4, int(fields.get("operation", 2)))
        return 0x0806, fixed + mac(own) + packed(fields["source"]) + mac(fields["to"]) + packed(fields["target"])
    if kind == "syn":
        port = int(fields["port"])
        syn = struct.pack("!HHIIBBHHH", port, 7000, 1, 0, 5 << 4, 2, 64240, 0, 0)
        return (ipv6 if ":" in fields["source"] else ipv4)(fields, 6, syn, 16)
    if kind == "ra":
        # The sender is a router for the next 9000 s.
        body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 9000, 0, 0) + struct.pack("!BB", 1, 1) + mac(own)
        return ipv6(fields, 58, body, 2)
    if kind == "redirect":
        body = struct.pack("!BBHI", 137, 0, 0, 0) + packed(fields["next"]) + packed(fields["about"])
        return ipv6(fields, 58, body + struct.pack("!BB", 2, 1) + mac(own), 2)
    type_, option, flags = (136, 2, 0x20000000) if kind == "na" else (135, 1, 0)
    lladdr = struct.pack("!BB", option, 1) + mac(own)
    return ipv6(fields, 58, struct.pack("!BBHI", type_, 0, 0, flags) + packed(fields["about"]) + lladdr, 2)


for line in sys.stdin:
    kind, *words = line.split()
    fields = dict(word.split("=", 1) for word in words)
    tags = [tag.split(":") for tag in fields.get("tags", "").split(",") if tag]
    head = b"".join(struct.pack("!HH", int(protocol, 16), int(vlan)) for protocol, vlan in tags)
    protocol, body = packet(kind, fields)
    rest = head + struct.pack("!H", protocol) + body
    if "vxlan" in fields:
        inside = mac(fields["to"]) + mac("02:77:00:00:00:77") + rest
        tunnel.sendto(struct.pack("!II", 1 << 27, 42 << 8) + inside, (fields["vxlan"], 4789))
    else:
        raw.send(mac(fields["to"]) + mac(fields.get("from", own)) + rest)
