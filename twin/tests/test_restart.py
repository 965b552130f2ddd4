"""A twin that is killed with SIGKILL and started again, as `python -m twin serve` runs it: what it had is there again."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from common import until
from conftest import SLOT

from twin.bodies import debian, netns
from twin.bodies.podman import Podman
from twin.settings import API_PORT, Settings

HANDLER = """
import os, time
import boto3
def handle(event, context):
    queue = boto3.client("sqs")
    if event["seconds"]:
        queue.send_message(QueueUrl=event["queue"], MessageBody="started " + event["word"])
    time.sleep(event["seconds"])
    queue.send_message(QueueUrl=event["queue"], MessageBody=event["word"])
"""


class Process:
    """A twin in a process of its own, which can be killed and started again on the same state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.podman = Podman(settings)
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        settings.state.mkdir()

    def start(self) -> float:
        """Start it, and wait for its API; returns the seconds that took."""
        self.starts += 1
        own = self.settings
        command = [sys.executable, "-m", "twin", "serve", f"--name={own.name}", f"--slot={own.slot}"]
        began = time.monotonic()
        with (own.state / f"log-{self.starts}").open("w") as log:
            self.process = subprocess.Popen(
                [*command, f"--state={own.state}", f"--store={own.store}"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until(self._answers)
        return time.monotonic() - began

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with suppress(OSError):
            socket.create_connection((self.settings.address, API_PORT), timeout=2).close()
            return True
        return False

    def log(self) -> str:
        return (self.settings.state / f"log-{self.starts}").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=120)

    def client(self, service: str, key: dict[str, str] | None = None) -> Any:
        key = key or json.loads((self.settings.state / "operator.json").read_text())
        session = boto3.Session(key["access_key_id"], key["secret_access_key"], region_name=self.settings.region)
        make: Any = session.client
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)
        return make(service, endpoint_url=self.settings.endpoint_url, config=config)


@pytest.fixture(scope="module")
def twin(twin_settings: Settings) -> Iterator[Process]:
    own = replace(twin_settings, name=f"test{SLOT}-restart", slot=SLOT + 2, state=twin_settings.state / "restart")
    process = Process(own)
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        assert process.stop() == 0
    assert process.podman.containers() == []
    assert [name for name in netns.listing() if name.startswith(f"{own.name}.")] == []
    assert not (own.state / "records").exists()


@pytest.fixture(scope="module")
def image(twin: Process) -> str:
    """The base image, in a region whose default security group lets people reach its instances."""
    twin.client("ec2").authorize_security_group_ingress(
        GroupName="default", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    return str(twin.client("ec2").describe_images()["Images"][0]["ImageId"])


def run_instance(twin: Process, image: str) -> dict[str, Any]:
    ec2 = twin.client("ec2")
    started = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    until(lambda: instance_of(twin, started)["State"]["Name"] == "running")
    return instance_of(twin, started)


def instance_of(twin: Process, instance_id: str) -> dict[str, Any]:
    found = twin.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"]
    return dict(found[0]["Instances"][0])


def reaches(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), timeout=2).close()
        return True
    return False


def test_instances_go_on_as_if_nothing_had_happened(twin: Process, image: str) -> None:
    stays, dies = run_instance(twin, image), run_instance(twin, image)
    podman, unknown = twin.podman, "i-0fedcba9876543210"
    podman.run("exec", stays["InstanceId"], "touch", "/run/kept")
    until(lambda: reaches(stays["PublicIpAddress"], 22))
    pid = podman.pid(stays["InstanceId"])
    imds = "http://169.254.169.254/latest"
    token = podman.run("exec", stays["InstanceId"], "python3", "-c", TOKEN)
    # Tokens are not waited for, but what is answered after one is not safe without it.
    twin.client("ec2").create_tags(Resources=[stays["InstanceId"]], Tags=[{"Key": "Name", "Value": "stays"}])
    stays = instance_of(twin, stays["InstanceId"])

    twin.kill()
    os.kill(podman.pid(dies["InstanceId"]), signal.SIGKILL)
    podman.start(unknown, debian.IMAGE, "sleep", "1000", netns=netns.path(f"{twin.settings.name}.{stays['InstanceId']}"))
    assert podman.run("exec", stays["InstanceId"], "ls", "/run/kept") == "/run/kept"  # it runs without the twin
    seconds = twin.start()
    assert seconds < 60

    now = instance_of(twin, stays["InstanceId"])
    assert now["State"]["Name"] == "running"
    assert {**now, "NetworkInterfaces": []} == {**stays, "NetworkInterfaces": []}
    assert podman.pid(stays["InstanceId"]) == pid
    assert podman.run("exec", stays["InstanceId"], "ls", "/run/kept") == "/run/kept"
    assert reaches(stays["PublicIpAddress"], 22)
    shown = podman.run("exec", stays["InstanceId"], "python3", "-c", LOOK.format(imds=imds, token=token))
    assert shown == stays["InstanceId"]

    ended = until(lambda: (d := instance_of(twin, dies["InstanceId"]))["State"]["Name"] != "running" and d)
    assert ended["StateReason"]["Code"] == "Server.InternalError"
    until(lambda: unknown not in podman.containers())

    another = run_instance(twin, image)
    assert another["PublicIpAddress"] not in (stays["PublicIpAddress"], dies["PublicIpAddress"])
    assert another["PrivateIpAddress"] not in (stays["PrivateIpAddress"], dies["PrivateIpAddress"])
    until(lambda: reaches(another["PublicIpAddress"], 22))
    twin.client("ec2").terminate_instances(InstanceIds=[stays["InstanceId"], dies["InstanceId"], another["InstanceId"]])
    until(lambda: podman.containers() == [])


TOKEN = """
import urllib.request
request = urllib.request.Request("http://169.254.169.254/latest/api/token", method="PUT")
request.add_header("X-aws-ec2-metadata-token-ttl-seconds", "600")
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""
LOOK = """
import urllib.request
request = urllib.request.Request("{imds}/meta-data/instance-id")
request.add_header("X-aws-ec2-metadata-token", "{token}")
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


def test_what_was_answered_is_there(twin: Process) -> None:
    """Each change is followed by SIGKILL: only what is safe by the time of its answer can be there."""
    ec2, iam, secrets = twin.client("ec2"), twin.client("iam"), twin.client("secretsmanager")
    group = ec2.create_security_group(GroupName="kept", Description="kept")["GroupId"]
    twin.kill()
    twin.start()
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.0.0.0/8")
    address = ec2.allocate_address(Domain="vpc")["PublicIp"]
    iam.create_user(UserName="ada")
    iam.attach_user_policy(UserName="ada", PolicyArn="arn:aws:iam::aws:policy/AmazonSQSFullAccess")
    made = iam.create_access_key(UserName="ada")["AccessKey"]
    key = twin.client("kms").create_key()["KeyMetadata"]["KeyId"]
    hidden = twin.client("kms").encrypt(KeyId=key, Plaintext=b"hush")["CiphertextBlob"]
    secrets.create_secret(Name="kept", SecretString="one")
    secrets.put_secret_value(SecretId="kept", SecretString="two")
    twin.kill()
    twin.start()
    rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert [rule["FromPort"] for rule in rules] == [22]
    assert [found["PublicIp"] for found in ec2.describe_addresses()["Addresses"]] == [address]
    assert ec2.allocate_address(Domain="vpc")["PublicIp"] != address
    own = {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}
    assert twin.client("sts", own).get_caller_identity()["Arn"].endswith("user/ada")
    attached = iam.list_attached_user_policies(UserName="ada")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSQSFullAccess"]
    assert twin.client("kms").decrypt(CiphertextBlob=hidden)["Plaintext"] == b"hush"
    assert secrets.get_secret_value(SecretId="kept")["SecretString"] == "two"
    assert secrets.get_secret_value(SecretId="kept", VersionStage="AWSPREVIOUS")["SecretString"] == "one"


@pytest.mark.rule(
    "failover",
    "A write to a DynamoDB table that was answered with success is durable.",
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html",
)
@pytest.mark.rule(
    "failover",
    "An object whose PutObject was answered with success is in the bucket as a whole.",
    "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html",
)
@pytest.mark.rule(
    "failover",
    "A message that SQS took stays in the queue until it is deleted or its retention period ends.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-basic-architecture.html",
)
def test_no_acknowledged_write_is_lost(twin: Process) -> None:
    """Three writers at full speed, and SIGKILL in the midst of them."""
    queue = twin.client("sqs").create_queue(QueueName="writes")["QueueUrl"]
    twin.client("s3").create_bucket(Bucket="writes")
    twin.client("dynamodb").create_table(
        TableName="writes",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    written: dict[str, list[Any]] = {"sqs": [], "s3": [], "dynamodb": []}

    def write(service: str, put: Callable[[Any, int], Any]) -> None:
        client = twin.client(service)
        with suppress(ClientError, BotoCoreError):
            for number in range(100_000):
                written[service].append(put(client, number))

    def put_object(client: Any, number: int) -> tuple[str, str]:
        size = 20_000 if number % 5 == 0 else 100
        return f"k{number}", client.put_object(Bucket="writes", Key=f"k{number}", Body=bytes([number % 256]) * size)["ETag"]

    def put_item(client: Any, number: int) -> str:
        client.put_item(TableName="writes", Item={"id": {"S": str(number)}, "n": {"N": str(number)}})
        return str(number)

    writers = [
        threading.Thread(
            target=write, args=("sqs", lambda c, n: c.send_message(QueueUrl=queue, MessageBody=str(n))["MessageId"])
        ),
        threading.Thread(target=write, args=("s3", put_object)),
        threading.Thread(target=write, args=("dynamodb", put_item)),
    ]
    for writer in writers:
        writer.start()
    until(lambda: all(len(done) > 100 for done in written.values()))
    twin.kill()
    for writer in writers:
        writer.join(60)
    twin.start()

    found, sqs = set(), twin.client("sqs")
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        found |= {message["MessageId"] for message in messages}
    assert set(written["sqs"]) <= found
    items = twin.client("dynamodb").get_paginator("scan").paginate(TableName="writes")
    assert set(written["dynamodb"]) <= {item["id"]["S"] for page in items for item in page["Items"]}
    s3 = twin.client("s3")
    for name, tag in written["s3"]:
        shown = s3.get_object(Bucket="writes", Key=name)
        assert shown["ETag"] == tag
        assert len(set(shown["Body"].read())) == 1


def test_a_message_that_was_deleted_does_not_come_back(twin: Process) -> None:
    sqs = twin.client("sqs")
    queue = sqs.create_queue(QueueName="deleted")["QueueUrl"]
    twin.kill()
    twin.start()
    for word in ("first", "second"):
        sqs.send_message(QueueUrl=queue, MessageBody=word)
    taken = sqs.receive_message(QueueUrl=queue)["Messages"][0]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=taken["ReceiptHandle"])
    twin.kill()
    twin.start()
    left = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in left] == [{"first": "second", "second": "first"}[taken["Body"]]]
    assert left[0]["MessageId"] != taken["MessageId"]


@pytest.mark.rule(
    "alarms and events",
    "An event that Lambda accepted asynchronously waits in its queue until the function has dealt with it; it may come twice.",
    "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html",
)
def test_events_taken_over_reach_their_function(twin: Process) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", HANDLER)
        archive.writestr("filler", os.urandom(100_000))  # large enough to be kept beside the records
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    iam, functions, sqs, sns = (twin.client(name) for name in ("iam", "lambda", "sqs", "sns"))
    role = iam.create_role(RoleName="function", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.attach_role_policy(RoleName="function", PolicyArn="arn:aws:iam::aws:policy/AmazonSQSFullAccess")
    made = functions.create_function(
        FunctionName="worker",
        Runtime="python3.13",
        Role=role,
        Handler="index.handle",
        Timeout=60,
        Code={"ZipFile": package.getvalue()},
    )
    until(lambda: functions.get_function(FunctionName="worker")["Configuration"]["State"] == "Active")
    queue = sqs.create_queue(QueueName="results")["QueueUrl"]
    topic = sns.create_topic(Name="work")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=made["FunctionArn"])
    inside = queue.replace(twin.settings.endpoint_url, "http://169.254.171.1")

    def event(word: str, seconds: float) -> bytes:
        return json.dumps({"queue": inside, "word": word, "seconds": seconds}).encode()

    def results() -> list[str]:
        found = []
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            found.append(message["Body"])
        return found

    functions.invoke(FunctionName="worker", InvocationType="Event", Payload=event("half", 5))
    until(lambda: results() == ["started half"])
    container = [name for name in twin.podman.containers() if "worker" in name]
    assert len(container) == 1
    functions.invoke(FunctionName="worker", InvocationType="Event", Payload=event("last", 0))
    twin.kill()  # one event in a function's hands, another just accepted
    twin.start()
    assert container[0] not in twin.podman.containers()
    found: list[str] = []
    until(lambda: {"half", "last"} <= set(found.extend(results()) or found))
    answer = functions.invoke(FunctionName="worker", Payload=event("asked", 0))
    assert "FunctionError" not in answer
    assert len(twin.client("s3").list_buckets()["Buckets"]) >= 0


def test_records_of_another_boot_are_of_no_use(twin: Process) -> None:
    """The host was restarted: nothing runs any more, and the region starts anew; its images stay."""
    images = {found["ImageId"] for found in twin.client("ec2").describe_images()["Images"]}
    twin.kill()
    file = twin.settings.state / "records" / "snapshot"
    header, _, data = file.read_bytes().partition(b"\n")
    file.write_bytes(json.dumps(json.loads(header) | {"boot": "another"}).encode() + b"\n" + data)
    twin.start()
    assert "the records are of boot 'another'" in twin.log()
    assert "starting anew" in twin.log()
    assert twin.client("sqs").list_queues().get("QueueUrls", []) == []
    assert {found["ImageId"] for found in twin.client("ec2").describe_images()["Images"]} == images
    assert twin.podman.containers() == []


def test_an_orderly_end_leaves_nothing(twin: Process) -> None:
    twin.client("sqs").create_queue(QueueName="gone")
    assert twin.stop() == 0
    assert not (twin.settings.state / "records").exists()
    twin.start()
    assert twin.client("sqs").list_queues().get("QueueUrls", []) == []
