"""Images of the service that differ in one thing from the one that runs: made of it as an operator would, by way of EC2's API."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from support import Platform, wait_until

PYTHON = "/opt/signup/current/lib/python3.13/site-packages/signup"
# Answers in the application's place where `condition` holds, `started` seconds after 1970 being when its process began.
WRAPPER = """
import time
_inner, started = app.wsgi_app, time.time()
def _outer(environ, start_response):
    path = environ["PATH_INFO"]
    if {condition}:
        start_response("{status}", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]
    return _inner(environ, start_response)
app.wsgi_app = _outer
"""


def answering(status_line: str, condition: str) -> str:
    """A script that makes the service answer with `status_line` where the Python expression holds."""
    code = WRAPPER.format(condition=condition, status=status_line)
    return f"cat >> {PYTHON}/wsgi.py <<'PYTHON'\n{code}PYTHON"


LEAK = """
_inner, _leaked = app.wsgi_app, []
def _outer(environ, start_response):
    if environ["PATH_INFO"] not in ("/healthz", "/readyz"):
        _leaked.append(bytearray(20 * 2**20))
    return _inner(environ, start_response)
app.wsgi_app = _outer
"""
GOOD = "echo changed > /etc/signup-variant"
BAD = {
    "crash at start": "printf '#!/bin/sh\\nexit 1\\n' > /opt/signup/current/bin/gunicorn",
    "health 503": answering("503 Service Unavailable", 'path == "/healthz"'),
    "slow start": "cd /etc/systemd/system && mkdir -p signup.service.d && "
    "printf '[Service]\\nExecStartPre=+/bin/sleep 900\\nTimeoutStartSec=1000\\n' > signup.service.d/slow.conf",
    "late errors": answering("500 Internal Server Error", 'path not in ("/healthz", "/readyz") and time.time() > started + 45'),
    # Twenty megabytes a request: the kernel ends the worker, and with it the requests at hand, again and again.
    "leaking memory": f"cat >> {PYTHON}/wsgi.py <<'PYTHON'\n{LEAK}PYTHON",
    "broken migration": f"""cat > {PYTHON}/migrations/versions/9999_broken.py <<'PYTHON'
from alembic import op
phase = "expand"
revision, down_revision, branch_labels, depends_on = "9999", "HEAD", None, None
def upgrade():
    op.execute("ALTER TABLE of_no_such_name ADD COLUMN x int")
def downgrade():
    pass
PYTHON""",
}


def running_image(platform: Platform) -> str:
    """The AMI of every instance of the fleet."""
    rows = platform.fleet()
    (image_id,) = {row["image"] for row in rows}
    return image_id


def variant(platform: Platform, script: str, **tags: str) -> str:
    """The id of a new AMI: the one that runs, after `script` has run in it as root; `tags` replace its own."""
    ec2, source = platform.target.client("ec2"), running_image(platform)
    image = ec2.describe_images(ImageIds=[source])["Images"][0]
    # What no bake made must not be taken for one's result: `make up` looks for an image of the same inputs.
    inputs = hashlib.sha256(f"{source} {script}".encode()).hexdigest()
    own = {tag["Key"]: tag["Value"] for tag in image["Tags"]} | {"InputsDigest": inputs} | tags
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [platform.outputs["vpc_id"]]}])["Subnets"]
    subnet = next(each["SubnetId"] for each in subnets if {"Key": "Tier", "Value": "app"} in each["Tags"])
    launched = ec2.run_instances(ImageId=source, InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=subnet)
    instance = launched["Instances"][0]["InstanceId"]
    try:
        wait_until("the builder", lambda: state(ec2, instance) == "running")
        platform.podman("exec", instance, "cloud-init", "status", "--wait", check=False)
        clean = "cloud-init clean --logs >/dev/null; : > /etc/machine-id; rm -f /etc/ssh/ssh_host_*"
        platform.podman("exec", instance, "sh", "-ec", f"{script}\n{clean}")
        made = ec2.create_image(
            InstanceId=instance,
            Name=f"{image['Name']}-variant-{uuid.uuid4().hex[:8]}",
            TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": key, "Value": value} for key, value in own.items()]}],
        )["ImageId"]
        wait_until("the image", lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available")
    finally:
        ec2.terminate_instances(InstanceIds=[instance])
    return str(made)


def state(ec2: Any, instance: str) -> str:
    return str(ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["State"]["Name"])
