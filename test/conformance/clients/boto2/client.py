"""boto 2, which speaks IMDSv1 only and has no setting for another address: its own function is given the proxy's."""
import functools
import json
import os
import sys

import boto
import boto.provider
import boto.utils


def main():
    endpoint = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    get_instance_metadata = boto.utils.get_instance_metadata
    # boto.provider looks it up here whenever its keys have less than five minutes left.
    boto.utils.get_instance_metadata = functools.partial(get_instance_metadata, url=endpoint)
    held = None
    print(json.dumps({"ready": "boto " + boto.__version__}), flush=True)
    for line in sys.stdin:
        try:
            if line.strip() == "region":
                zone = get_instance_metadata(url=endpoint, data="meta-data/placement/", num_retries=1)
                answer = {"region": zone["availability-zone"][:-1]}
            elif line.strip() == "held":
                if held is None:
                    held = boto.provider.Provider("aws")
                answer = {"accessKeyId": held.access_key, "secretAccessKey": held.secret_key, "token": held.security_token}
            else:
                # As boto.provider.Provider does it: the role's name is the only key of the folder.
                roles = get_instance_metadata(
                    url=endpoint, data="meta-data/iam/security-credentials/", num_retries=1, timeout=1.0
                )
                document = list(roles.values())[0] if roles else {}
                if not document or "AccessKeyId" not in document:
                    answer = {"error": "no credentials"}
                else:
                    answer = {
                        "accessKeyId": document["AccessKeyId"],
                        "secretAccessKey": document["SecretAccessKey"],
                        "token": document["Token"],
                    }
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
