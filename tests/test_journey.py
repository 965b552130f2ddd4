"""One signup's whole way: load balancer, PostgreSQL, outbox, SNS, Lambda, DynamoDB, mail, confirmation."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid

import pytest
import requests
from support import PASSWORD, Platform, evenkeel, wait_until

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")


def test_a_signup_is_verified(platform: Platform) -> None:
    email = f"grace-{uuid.uuid4().hex[:8]}@example.com"
    created = platform.sign_up(email)
    assert created.status_code == 201, created.text
    user = created.json()
    assert user["verified"] is False
    assert user["email"] == email
    assert "password" not in user

    refused = requests.get(f"{platform.url}/v1/user/self", auth=(email, PASSWORD), timeout=30)
    assert refused.status_code == 403, refused.text

    mail = wait_until("the verification mail", lambda: platform.mails(email))[0]
    assert mail["to"] == email or email in str(mail["to"])
    link = re.search(r"(http://\S+/verify\?token=([\w-]+))", str(mail["text"]))
    assert link, mail["text"]
    assert link[1].startswith(platform.url)
    token = link[2]
    assert token in str(mail["html"])
    assert set(mail["custom_args"]) == {"message_id"}  # type: ignore[call-overload]

    # Only the token's hash is kept, with an expiry.
    stored = platform.target.client("dynamodb").scan(TableName=platform.outputs["token_table_name"])["Items"]
    ours = [item for item in stored if item["user_id"]["S"] == user["id"]]
    assert [item["token_hash"]["S"] for item in ours] == [hashlib.sha256(token.encode()).hexdigest()]
    assert int(ours[0]["expires_at"]["N"]) > 0
    assert token not in str(stored)

    # Following the link, as a mail scanner does, verifies nobody; pressing its button does.
    page = requests.get(link[1], timeout=30)
    assert page.status_code == 200
    assert "<button" in page.text
    assert requests.get(f"{platform.url}/v1/user/self", auth=(email, PASSWORD), timeout=30).status_code == 403
    confirmed = requests.post(f"{platform.url}/v1/user/verify", params={"token": token}, timeout=30)
    assert confirmed.status_code == 200, confirmed.text
    found = requests.get(f"{platform.url}/v1/user/self", auth=(email, PASSWORD), timeout=30)
    assert found.status_code == 200
    assert found.json()["verified"] is True

    # A picture reaches the bucket by the instances' role, and leaves it.
    address, bucket = f"{platform.url}/v1/user/self/pic", platform.outputs["picture_bucket"]
    s3 = platform.target.client("s3")
    kept = requests.post(address, auth=(email, PASSWORD), data=PIXEL, timeout=30)
    assert kept.status_code == 201, kept.text
    assert requests.get(address, auth=(email, PASSWORD), timeout=30).content == PIXEL
    (item,) = s3.list_objects_v2(Bucket=bucket, Prefix=f"pictures/{user['id']}/")["Contents"]
    assert s3.get_object(Bucket=bucket, Key=item["Key"])["ContentType"] == "image/png"
    assert requests.delete(address, auth=(email, PASSWORD), timeout=30).status_code == 204
    assert s3.list_objects_v2(Bucket=bucket, Prefix=f"pictures/{user['id']}/")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("domain", "end", "words"),
    [("example.com", "delivered", "delivered to the receiving server"), ("bounce.example.com", "bounced", "bounced: 550 5.1.1")],
)
def test_what_sendgrid_tells_of_a_mail_reaches_who_asks(platform: Platform, domain: str, end: str, words: str) -> None:
    """The person on call by the playbook, and its owner at resend."""
    email = f"told-{uuid.uuid4().hex[:8]}@{domain}"
    assert platform.sign_up(email).status_code == 201
    wait_until("SendGrid's word", lambda: words in evenkeel("mail", EMAIL=email).stdout)
    again = f"{platform.url}/v1/user/verify/resend"
    answer = requests.post(again, json={"email": email}, auth=(email, PASSWORD), timeout=30)
    assert answer.status_code == 202, answer.text
    assert answer.json()["mail"]["status"] == end


def test_a_forged_token_verifies_nobody(platform: Platform) -> None:
    forged = requests.post(f"{platform.url}/v1/user/verify", params={"token": "A" * 43}, timeout=30)
    assert forged.status_code == 404
    assert forged.headers["Content-Type"].startswith("application/problem+json")


def test_nothing_secret_is_logged(platform: Platform) -> None:
    email = f"quiet-{uuid.uuid4().hex[:8]}@example.com"
    assert platform.sign_up(email).status_code == 201
    mail = wait_until("the verification mail", lambda: platform.mails(email))[0]
    token = re.search(r"token=([\w-]+)", str(mail["text"]))
    assert token
    requests.get(f"{platform.url}/verify", params={"token": token[1]}, timeout=30)
    journals = "".join(
        platform.podman("exec", instance["InstanceId"], "journalctl", "--no-pager", "--output=cat")
        for group in platform.target.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        for instance in group["Instances"]
    )
    assert "signup" in journals
    for secret in (PASSWORD, email, token[1]):
        assert secret not in journals


def test_what_the_fleet_logs_and_measures_reaches_cloudwatch(platform: Platform) -> None:
    logs, cloudwatch, name = platform.target.client("logs"), platform.target.client("cloudwatch"), platform.target.project()

    def streams() -> set[str]:
        found = logs.describe_log_streams(logGroupName=f"/{name}/fleet")["logStreams"]
        return {each["logStreamName"] for each in found}

    def metrics() -> set[str]:
        return {each["MetricName"] for each in cloudwatch.list_metrics(Namespace=f"{name}/signup")["Metrics"]}

    wait_until("a stream of each instance", lambda: {each["instance"] for each in platform.fleet()} <= streams())
    wait_until("metrics of service and host", lambda: {"Requests", "mem_used_percent"} <= metrics())
