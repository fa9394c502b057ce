"""
The AWS SDK for C++, which pyarrow has inside, with its default chain. It shows no keys, so it is given a place for S3 of our own, and what it
signs with is read there. See redirect.c for the metadata service's address.
"""
import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

library = os.environ["REDIRECT"]
if os.environ.get("LD_PRELOAD") != library:
    port = str(urlsplit(os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).port)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": library, "IMDS_PORT": port})

import pyarrow  # noqa: E402
from pyarrow import fs  # noqa: E402

seen = {}


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        key = re.search(r"Credential=(\w+)/", self.headers.get("Authorization", ""))
        agent = re.search(r"aws-sdk-cpp/(\S+)", self.headers.get("User-Agent", ""))
        seen.update(version=agent and agent.group(1), accessKeyId=key and key.group(1), token=self.headers.get("x-amz-security-token"))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = answer

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{server.server_port}"
    held = None
    # It says its version to those that it asks.
    fs.S3FileSystem(anonymous=True, region="eu-west-1", endpoint_override=place, scheme="http").get_file_info("bucket/key")
    print(json.dumps({"ready": f"aws-sdk-cpp {seen['version']} in pyarrow {pyarrow.__version__}"}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        try:
            if command == "region":
                answer = {"unsupported": "Arrow asks for no region"}
            else:
                # It cannot be told to ask again before its credentials are about to expire.
                if held is None or command != "held":
                    held = fs.S3FileSystem(region="eu-west-1", endpoint_override=place, scheme="http")
                seen.clear()
                held.get_file_info("bucket/key")
                answer = dict(seen) if seen.get("accessKeyId") else {"error": "no credentials"}
        except Exception as error:  # what the SDK says is the result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
