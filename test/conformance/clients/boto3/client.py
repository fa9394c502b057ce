"""botocore, as boto3 uses it by default. Commands on stdin, one a line; an answer in JSON on stdout for each."""
import json
import sys

import boto3
import botocore
import botocore.utils


def main():
    session = boto3.Session()
    held = None
    print(json.dumps({"ready": "botocore " + botocore.__version__}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        try:
            if command == "region":
                # What `aws` and boto3 ask when nothing else names a region, in the session's own configuration.
                answer = {"region": botocore.utils.IMDSRegionProvider(session._session).provide()}
            else:
                if command == "again" and held is not None:
                    held._protected_refresh(is_mandatory=True)
                elif command != "held" or held is None:
                    session = boto3.Session()
                    held = session.get_credentials()
                answer = {"error": "no credentials"} if held is None else keys(held.get_frozen_credentials())
        except Exception as error:  # what the SDK says is the result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def keys(frozen):
    return {"accessKeyId": frozen.access_key, "secretAccessKey": frozen.secret_key, "token": frozen.token}


main()
