"""Sends one hand-made frame: forge.py INTERFACE KIND KEY=VALUE... Whatever is not said is the sender's own.

KIND: arp, na, ns, syn. Keys: source, target (addresses), to (MAC), tags (`8100:0,88a8:5`), hardware, operation (ARP),
options (`hop`, `destination`: an extension header before ICMPv6), length (0: the payload length that IPv6 says).
"""
import socket
import struct
import sys

interface, kind = sys.argv[1:3]
given = dict(argument.split("=", 1) for argument in sys.argv[3:])
own = open("/sys/class/net/%s/address" % interface).read().strip()


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data):
    total = sum(struct.unpack("!%dH" % ((len(data) + 1) // 2), data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


source, target = packed(given["source"]), packed(given["target"])
options = {"hop": 0, "destination": 60}


def ipv6(protocol, payload, offset, to):
    pseudo = source + to + struct.pack("!II", len(payload), protocol)
    payload = payload[:offset] + struct.pack("!H", checksum(pseudo + payload)) + payload[offset + 2 :]
    first = protocol
    if "options" in given:
        # Six bytes of padding, which an extension header must come to.
        payload = struct.pack("!BBBB4x", protocol, 0, 1, 4) + payload
        first = options[given["options"]]
    length = int(given.get("length", len(payload)))
    return struct.pack("!IHBB", 6 << 28, length, first, 255) + source + to + payload


def ipv4(protocol, payload, offset, to):
    pseudo = source + to + struct.pack("!HH", protocol, len(payload))
    payload = payload[:offset] + struct.pack("!H", checksum(pseudo + payload)) + payload[offset + 2 :]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source + to
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


if kind == "arp":
    protocol = 0x0806
    hardware, operation = int(given.get("hardware", 1)), int(given.get("operation", 2))
    packet = struct.pack("!HHBBH", hardware, 0x0800, 6, 4, operation) + mac(own) + source + mac(given["to"]) + target
elif kind in ("na", "ns"):
    protocol = 0x86DD
    about = packed(given["about"])
    option = b"" if source == bytes(16) else struct.pack("!BB", 2 if kind == "na" else 1, 1) + mac(own)
    flags = 0x20000000 if kind == "na" else 0
    packet = ipv6(58, struct.pack("!BBHI", 136 if kind == "na" else 135, 0, 0, flags) + about + option, 2, target)
else:
    syn = struct.pack("!HHIIBBHHH", int(given["port"]), 7000, 1, 0, 5 << 4, 2, 64240, 0, 0)
    protocol, packet = (0x0800, ipv4(6, syn, 16, target)) if len(source) == 4 else (0x86DD, ipv6(6, syn, 16, target))

frame = mac(given["to"]) + mac(own)
for tag in filter(None, given.get("tags", "").split(",")):
    kind_of_tag, identifier = tag.split(":")
    frame += struct.pack("!HH", int(kind_of_tag, 16), int(identifier))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((interface, 0))
raw.send(frame + struct.pack("!H", protocol) + packet)
