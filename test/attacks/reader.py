"""The victim's reading: requests session tokens and credentials as SDKs do, with connections that are kept for some requests.

Usage: reader.py CONFIG_JSON   {"service": address, "count": answers to get, "seconds": limit, "waits": do not exit}. Prints one line of JSON: the number of answers and failures, the tokens, and when it began and ended.
"""
import json
import os
import socket
import sys
import time

from loot import LIST, request, whole_answer

ROLE = "Victim"
REQUESTS_PER_CONNECTION = 10
PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 2.0
STOP = "/dev/shm/stop"  # ends it


def exchange(connection, data):
    connection.sendall(data)
    received = b""
    while whole_answer(received) is None:
        part = connection.recv(65536)
        if part == b"":
            raise OSError("the connection was closed")
        received += part
    status, body = whole_answer(received)
    if status != 200:
        raise OSError("status %d" % status)
    return body


def read(config):
    tokens, errors, credentials, connection = [], [], 0, None
    began = time.monotonic()
    number = 0
    if os.path.exists(STOP):
        os.unlink(STOP)
    while len(tokens) + credentials < config["count"] and time.monotonic() - began < config["seconds"] and not os.path.exists(STOP):
        try:
            if connection is None:
                connection = socket.create_connection((config["service"], 80), ANSWER_SECONDS)
            number += 1
            # Tokens that are issued in one second differ by their lifetime.
            lifetime = "X-aws-ec2-metadata-token-ttl-seconds: %d" % (300 + 60 * number)
            tokens.append(exchange(connection, request("PUT", "/latest/api/token", [lifetime])))
            if number % REQUESTS_PER_CONNECTION == 0:
                exchange(connection, request("GET", LIST + ROLE, ["X-aws-ec2-metadata-token: " + tokens[-1]]))
                credentials += 1
                connection.close()
                connection = None
            time.sleep(PAUSE_SECONDS)
        except OSError as error:
            errors.append(str(error))
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(PAUSE_SECONDS)
    return {
        "tokens": tokens,
        "credentials": credentials,
        "errors": errors,
        "began": began,
        "ended": time.monotonic(),
    }


def main(config):
    print(json.dumps(read(config)), flush=True)
    while config.get("waits", False):
        time.sleep(1)


main(json.loads(sys.argv[1]))
