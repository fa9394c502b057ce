"""Requests credentials in a loop, from a container's first instruction on, and logs the result of each: `TIME ADDRESS OUTCOME`.

Usage: firewall-probe.py LOG TIMEOUT_SECONDS ADDRESS...   Outcomes: `served STATUS`, `LEAK`, `nothing REASON`.
"""
import socket
import sys
import time

LIST = "/latest/meta-data/iam/security-credentials/"
MARKS = (b"HOST-SECRET-LEAK", b"HOSTSECRETLEAK", b"ec2-host-role")


def get(address, path):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(float(sys.argv[2]))
        connection.connect((address, 80))
        host = "[%s]" % address if ":" in address else address
        connection.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host)).encode())
        answer = b""
        while True:
            part = connection.recv(65536)
            if not part:
                return answer
            answer += part


def probe(address):
    try:
        answer = get(address, LIST)
        head, _, body = answer.partition(b"\r\n\r\n")
        status = head.split(b" ")[1].decode()
        if status == "200":
            answer += get(address, LIST + body.decode().split("\n")[0])
        return "LEAK" if any(mark in answer for mark in MARKS) else "served " + status
    except (OSError, IndexError) as error:
        return "nothing " + type(error).__name__


with open(sys.argv[1], "a", buffering=1) as log:
    while True:
        for address in sys.argv[3:]:
            began = time.time()
            print("%.3f %s %s" % (began, address, probe(address)), file=log)
        time.sleep(0.02)
