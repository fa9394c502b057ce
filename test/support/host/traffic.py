"""Traffic between containers: run in their network namespaces, with the host's Python.

traffic.py listen PORT BANNER                  says the banner to who connects, and then echoes or swallows
traffic.py connect ADDRESS PORT COUNT          COUNT connections, 16 at a time; who answered, by banner
traffic.py stream ADDRESS PORT SECONDS         megabytes a second
traffic.py pingpong ADDRESS PORT SECONDS       round trips a second
traffic.py claim INTERFACE ADDRESS             gratuitous ARP for ADDRESS, a few times, as keepalived sends it
traffic.py announce INTERFACE PREFIX           router advertisements for PREFIX::/64, one a second
"""
import collections
import concurrent.futures
import json
import socket
import struct
import sys
import threading
import time


def listen(port, banner):
    server = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    print("listening", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0], banner.encode()), daemon=True).start()


def serve(client, banner):
    with client:
        try:
            what = client.recv(1)
            if what == b"b":
                client.sendall(banner)
            while what == b"p" and (data := client.recv(64)):
                client.sendall(data)
            while what == b"s" and client.recv(1 << 18):
                pass
        except OSError:
            pass


def open_to(address, port, what):
    client = socket.create_connection((address, int(port)), timeout=5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(what)
    return client


def banner_of(address, port):
    try:
        with open_to(address, port, b"b") as client:
            return client.recv(64).decode() or "nothing"
    except OSError as error:
        return type(error).__name__


def connect(address, port, count):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda _: banner_of(address, port), range(int(count)))
        print(json.dumps(collections.Counter(answers)))


def stream(address, port, seconds):
    data = bytes(1 << 18)
    with open_to(address, port, b"s") as client:
        sent, started = 0, time.monotonic()
        while (passed := time.monotonic() - started) < float(seconds):
            client.sendall(data)
            sent += len(data)
    print(sent / passed / 1e6)


def pingpong(address, port, seconds):
    with open_to(address, port, b"p") as client:
        rounds, started = 0, time.monotonic()
        while (passed := time.monotonic() - started) < float(seconds):
            client.sendall(b"x")
            client.recv(64)
            rounds += 1
    print(rounds / passed)


def claim(interface, address):
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    raw.bind((interface, 0))
    mac, ipv4 = raw.getsockname()[4], socket.inet_aton(address)
    for operation in (1, 2) * 5:
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + ipv4 + b"\xff" * 6 + ipv4
        raw.send(b"\xff" * 6 + mac + b"\x08\x06" + arp)
        time.sleep(0.25)


def announce(interface, prefix):
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    # RFC 4861, 4.2 and 4.6.2: on-link, autonomous, valid for an hour. The kernel adds the checksum.
    header = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 1800, 0) + socket.inet_pton(socket.AF_INET6, prefix + "::")
    while True:
        raw.sendto(header + option, ("ff02::1", 0, 0, socket.if_nametoindex(interface)))
        time.sleep(1)


globals()[sys.argv[1]](*sys.argv[2:])
