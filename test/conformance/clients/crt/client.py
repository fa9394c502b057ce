"""The AWS Common Runtime (C), which is in several SDKs, by its Python binding: its IMDS provider in default settings. See redirect.c for the address."""
import json
import os
import sys
from urllib.parse import urlsplit

library = os.environ["REDIRECT"]
if os.environ.get("LD_PRELOAD") != library:
    port = str(urlsplit(os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).port)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": library, "IMDS_PORT": port})

import awscrt  # noqa: E402
from awscrt.auth import AwsCredentialsProvider  # noqa: E402
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup  # noqa: E402

# The chain caches what its providers find.
def chain():
    loops = EventLoopGroup(1)
    return AwsCredentialsProvider.new_default_chain(ClientBootstrap(loops, DefaultHostResolver(loops)))


def main():
    held = None
    print(json.dumps({"ready": "awscrt " + awscrt.__version__}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        try:
            if command == "region":
                answer = {"unsupported": "the runtime looks for no region"}
            else:
                # It cannot be told to ask again before its credentials are about to expire.
                if held is None or command != "held":
                    held = chain()
                keys = held.get_credentials().result(20)
                answer = {"accessKeyId": keys.access_key_id, "secretAccessKey": keys.secret_access_key, "token": keys.session_token}
        except Exception as error:  # what the runtime says is the result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
