"""cloud-init's EC2 data source, as it crawls on EC2, told where the metadata service is. One line of JSON: what it read, and what it complained of."""
import io
import json
import logging
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["SDK_FOLDER"], "usr/lib/python3/dist-packages"))
from cloudinit import helpers, version  # noqa: E402
from cloudinit.sources import DataSourceEc2 as ec2  # noqa: E402


def main():
    complaints = io.StringIO()
    logging.basicConfig(stream=complaints, level=logging.WARNING, format="%(message)s")
    # It looks at the BIOS for where it runs, and this machine is none of EC2's.
    ec2.identify_platform = lambda: ec2.CloudNames.AWS
    endpoint = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    settings = {"datasource": {"Ec2": {"metadata_urls": [endpoint], "max_wait": 20, "timeout": 5}}}
    with tempfile.TemporaryDirectory() as folder:
        paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
        source = ec2.DataSourceEc2(settings, None, paths)
        started = time.monotonic()
        crawled = source.crawl_metadata()
        seconds = time.monotonic() - started
    user_data = crawled.get("user-data")
    answer = {
        "version": "cloud-init " + version.version_string(),
        "seconds": seconds,
        "api": crawled.get("_metadata_api_version"),
        "metadata": crawled.get("meta-data"),
        "identity": crawled.get("dynamic", {}).get("instance-identity", {}).get("document"),
        "userData": user_data.decode() if isinstance(user_data, bytes) else user_data,
        "complaints": complaints.getvalue(),
    }
    print(json.dumps(answer))


main()
