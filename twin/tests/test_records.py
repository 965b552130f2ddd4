"""Records on disk: what of them is kept, in which way, and what becomes of the rest. No bodies."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest
from common import client, until
from moto import mock_aws
from moto.backends import get_backend
from moto.core.base_backend import BackendDict

from twin.region import changes, journal, keeper, snapshot
from twin.region.changes import Change
from twin.region.region import Region
from twin.settings import Settings

ACCOUNT, HOME = "123456789012", "us-east-1"


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with mock_aws():
        settings = Settings(state=tmp_path, store=tmp_path, name="records", slot=90)
        none: Any = None
        yield Region(settings, none)


# What a request may change


def request_of(call: Callable[[Any], Any], service: str) -> tuple[dict[str, Any], bytes]:
    """The WSGI environment and body of the request that boto3 would send."""
    made = boto3.Session("key", "secret", region_name=HOME).client(service, endpoint_url="http://127.0.0.1:1")  # type: ignore[call-overload]
    sent: list[AWSRequest] = []

    def take(request: AWSRequest, **_: Any) -> Any:
        sent.append(request)
        raise InterruptedError

    made.meta.events.register("before-send", take)
    with pytest.raises(InterruptedError):
        call(made)
    path, _, query = sent[0].url.partition("127.0.0.1:1")[2].partition("?")
    headers = {f"HTTP_{name.upper().replace('-', '_')}": _text(value) for name, value in sent[0].headers.items()}
    environ = {
        "REQUEST_METHOD": sent[0].method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": headers.get("HTTP_CONTENT_TYPE", ""),
        **headers,
    }
    body: Any = sent[0].body or b""
    body = body.read() if hasattr(body, "read") else body
    return environ, body.encode() if isinstance(body, str) else bytes(body)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


KEY = {"id": {"S": "1"}}
QUEUE = "http://127.0.0.1:1/123456789012/q"
CALLS: dict[str, tuple[str, Callable[[Any], Any], Change]] = {
    "a look at EC2": ("ec2", lambda c: c.describe_vpcs(), Change.NONE),
    "a VPC": ("ec2", lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), Change.ANY),
    "a look at functions": ("lambda", lambda c: c.list_functions(), Change.NONE),
    "a function deleted": ("lambda", lambda c: c.delete_function(FunctionName="f"), Change.ANY),
    "an invocation": ("lambda", lambda c: c.invoke(FunctionName="f"), Change.NONE),
    "an event": ("lambda", lambda c: c.invoke(FunctionName="f", InvocationType="Event"), Change.REPEATABLE),
    "an item read": ("dynamodb", lambda c: c.get_item(TableName="t", Key=KEY), Change.NONE),
    "an item": ("dynamodb", lambda c: c.put_item(TableName="t", Item=KEY), Change.REPEATABLE),
    "a table deleted": ("dynamodb", lambda c: c.delete_table(TableName="t"), Change.ANY),
    "a message": ("sqs", lambda c: c.send_message(QueueUrl=QUEUE, MessageBody="m"), Change.REPEATABLE),
    "a message taken": ("sqs", lambda c: c.receive_message(QueueUrl=QUEUE), Change.REPEATABLE),
    "a queue": ("sqs", lambda c: c.create_queue(QueueName="q"), Change.ANY),
    "a notification": ("sns", lambda c: c.publish(TopicArn="arn:aws:sns:us-east-1:1:t", Message="m"), Change.REPEATABLE),
    "an object": ("s3", lambda c: c.put_object(Bucket="b", Key="a/k", Body=b"1"), Change.REPEATABLE),
    "an object's part": (
        "s3",
        lambda c: c.upload_part(Bucket="b", Key="k", PartNumber=1, UploadId="u", Body=b"1"),
        Change.REPEATABLE,
    ),
    "objects deleted": ("s3", lambda c: c.delete_objects(Bucket="b", Delete={"Objects": [{"Key": "k"}]}), Change.REPEATABLE),
    "an upload begun": ("s3", lambda c: c.create_multipart_upload(Bucket="b", Key="k"), Change.ANY),
    "an object's tags": ("s3", lambda c: c.put_object_tagging(Bucket="b", Key="k", Tagging={"TagSet": []}), Change.ANY),
    "a bucket": ("s3", lambda c: c.create_bucket(Bucket="b"), Change.ANY),
    "a bucket's policy": ("s3", lambda c: c.put_bucket_policy(Bucket="b", Policy="{}"), Change.ANY),
    "an object read": ("s3", lambda c: c.get_object(Bucket="b", Key="k"), Change.NONE),
    "a data point": (
        "cloudwatch",
        lambda c: c.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}]),
        Change.REPEATABLE,
    ),
    "an alarm": (
        "cloudwatch",
        lambda c: c.put_metric_alarm(AlarmName="a", EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold"),
        Change.ANY,
    ),
    "a secret read": ("secretsmanager", lambda c: c.get_secret_value(SecretId="s"), Change.NONE),
    "a secret": ("secretsmanager", lambda c: c.put_secret_value(SecretId="s", SecretString="s"), Change.ANY),
    "a session": ("sts", lambda c: c.get_session_token(), Change.ANY),
    "a role's session": ("sts", lambda c: c.assume_role(RoleArn="arn:aws:iam::1:role/rrrrrr", RoleSessionName="ss"), Change.ANY),
    "who is it": ("sts", lambda c: c.get_caller_identity(), Change.NONE),
    "a ciphertext": ("kms", lambda c: c.decrypt(CiphertextBlob=b"x"), Change.NONE),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_request_may_change(name: str) -> None:
    service, call, change = CALLS[name]
    assert changes.of(*request_of(call, service)) is change


def test_a_request_without_a_signature_may_change_anything() -> None:
    assert changes.of({"REQUEST_METHOD": "PUT", "PATH_INFO": "/bucket/key"}, b"") is Change.ANY


# Snapshots


def begin_again() -> None:
    """As a new process has it: no records at all."""
    BackendDict.reset()


def test_records_come_back_whole(region: Region) -> None:
    ec2, iam, s3, ssm = client("ec2"), client("iam"), client("s3"), client("ssm")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    template = ec2.create_launch_template(
        LaunchTemplateName="t", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "t3.micro"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="g",
        MinSize=1,
        MaxSize=1,
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
        VPCZoneIdentifier=subnet,
    )
    iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName="r", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    policy = iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")["Policy"]
    s3.create_bucket(Bucket="bucket")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    versions = [
        s3.put_object(Bucket="bucket", Key="k", Body=bytes([n]) * size)["VersionId"] for n, size in ((1, 50_000), (2, 10))
    ]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
    ssm.put_parameter(Name="/p", Value="v", Type="String")
    key = client("kms").create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    signed = client("kms").sign(KeyId=key, Message=b"m", SigningAlgorithm="RSASSA_PSS_SHA_256")["Signature"]
    client("secretsmanager").create_secret(Name="s", SecretString="hush")
    queue = client("sqs").create_queue(QueueName="q")["QueueUrl"]
    certificate = client("acm").request_certificate(DomainName="a.example.com")["CertificateArn"]
    region.kept["mine"] = {"a": 1}
    region.allocate_public_address()
    region.names.set("db.example.internal", "10.1.0.9")
    region.faults.dark.add("us-east-1a")

    (folder := region.settings.state / "contents").mkdir()
    data = snapshot.dump(region.state(), snapshot.Blobs(folder))
    assert len(data) < 2_000_000
    before = ec2.describe_instances()["Reservations"][0]["Instances"]
    begin_again()
    ec2_backend: Any = get_backend("ec2")[ACCOUNT][HOME]
    assert vpc not in ec2_backend.vpcs
    none: Any = None
    again = Region(region.settings, none)
    again.set_state(snapshot.load(data, snapshot.Blobs(folder)))

    assert get_backend("ec2")[ACCOUNT][HOME] is ec2_backend
    assert ec2.describe_instances()["Reservations"][0]["Instances"] == before
    runs = [ec2.run_instances(ImageId="ami-12c6146b", SubnetId=subnet, MinCount=1, MaxCount=1) for _ in range(2)]
    assert before[0]["PrivateIpAddress"] == "10.1.0.4"  # AWS keeps those before it for itself
    assert [run["Instances"][0]["PrivateIpAddress"] for run in runs] == ["10.1.0.5", "10.1.0.6"]
    group = get_backend("autoscaling")[ACCOUNT][HOME].autoscaling_groups["g"]
    assert group.instance_states[0].instance is ec2_backend.get_instance(before[0]["InstanceId"])
    assert group.autoscaling_backend.ec2_backend is ec2_backend
    assert iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")["Policy"] == policy
    iam.detach_role_policy(RoleName="r", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")["Policy"]["AttachmentCount"] == 0
    assert s3.get_object(Bucket="bucket", Key="k", VersionId=versions[0])["Body"].read() == b"\1" * 50_000
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"\2" * 10
    assert s3.list_parts(Bucket="bucket", Key="m", UploadId=upload)["UploadId"] == upload
    names: Any = get_backend("s3")
    assert names.bucket_accounts["bucket"] == ("aws", ACCOUNT)  # taken, for every account
    assert ssm.get_parameter(Name="/p")["Parameter"]["Value"] == "v"
    assert client("kms").verify(KeyId=key, Message=b"m", Signature=signed, SigningAlgorithm="RSASSA_PSS_SHA_256")[
        "SignatureValid"
    ]
    assert client("secretsmanager").get_secret_value(SecretId="s")["SecretString"] == "hush"
    client("sqs").send_message(QueueUrl=queue, MessageBody="m")
    assert client("acm").describe_certificate(CertificateArn=certificate)["Certificate"]["DomainName"] == "a.example.com"
    assert again.kept["mine"] == {"a": 1}
    assert again.allocate_public_address() == str(region.settings.public_addresses[2])
    assert again.names.addresses() == {"db.example.internal": "10.1.0.9"}
    assert again.faults.refuses_launch("us-east-1a")
    assert len(snapshot.dump(again.state(), snapshot.Blobs(folder))) == pytest.approx(len(data), rel=0.02)


def test_large_contents_are_written_once(tmp_path: Path, region: Region) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="one", Body=b"1" * 500_000)
    blobs = snapshot.Blobs(tmp_path)
    assert len(snapshot.dump({}, blobs)) < 500_000
    blobs.keep_used()
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    s3.put_object(Bucket="bucket", Key="two", Body=b"2" * 500_000)
    snapshot.dump({}, blobs)
    blobs.keep_used()
    assert len(list(tmp_path.iterdir())) == 2
    assert file.stat().st_mtime_ns == written
    s3.delete_object(Bucket="bucket", Key="one")
    snapshot.dump({}, blobs)
    blobs.keep_used()
    assert not file.exists()


def test_what_cannot_be_kept_is_named(region: Region) -> None:
    client("sqs").create_queue(QueueName="q")
    get_backend("sqs")[ACCOUNT][HOME].queues["q"].odd = threading.Thread()
    with pytest.raises(Exception, match=f"sqs/{ACCOUNT}/{HOME}: .*pickle"):
        snapshot.dump({}, snapshot.Blobs(region.settings.state))


# The journal


def entry(word: bytes, number: int = 1) -> journal.Entry:
    return journal.Entry.of({"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(word)}, word, number)


def test_a_journal_is_read_up_to_where_it_was_cut_off(tmp_path: Path) -> None:
    written = journal.Journal(tmp_path)
    written.begin(1)
    written.append(entry(b"one"))
    written.begin(2)  # its snapshot was never finished
    written.append(entry(b"two"))
    written.append(entry(b"three" * 1000))
    written.close()
    file = tmp_path / "journal-2"
    file.write_bytes(file.read_bytes()[:-100])
    assert file.stat().st_mode & 0o777 == 0o600
    again = journal.Journal(tmp_path)
    assert [found.body for found in again.entries(1)] == [b"one", b"two"]
    assert [found.body for found in again.entries(2)] == [b"two"]
    again.discard(2)
    assert [file.name for file in tmp_path.iterdir()] == ["journal-2"]


# The keeper


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("400 Bad Request", [])
    return [b"no"]


@pytest.fixture
def kept(region: Region) -> Iterator[keeper.Keeper]:
    made = keeper.Keeper(region, region.settings.state / "records")
    assert not made.restore()
    made.start()
    yield made
    made.end()


def carry_out(kept: keeper.Keeper, call: Callable[[Any], Any], service: str, by: Any = app) -> None:
    environ, body = request_of(call, service)
    assert kept.carry_out(by, environ, lambda *_: None, body, kept.region.lock)


def number(kept: keeper.Keeper) -> int:
    with (kept.folder / "snapshot").open("rb") as file:
        return int(json.loads(file.readline())["number"])


def test_a_change_is_in_a_snapshot_when_it_is_answered(kept: keeper.Keeper) -> None:
    def change(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.region.kept["vpc"] = True
        return app(environ, start_response)

    first = number(kept)
    carry_out(kept, lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), "ec2", change)
    assert number(kept) == first + 1
    assert b"vpc" in (kept.folder / "snapshot").read_bytes()


def test_reads_and_refusals_leave_no_trace(kept: keeper.Keeper) -> None:
    carry_out(kept, lambda c: c.describe_vpcs(), "ec2")
    carry_out(kept, lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), "ec2", refuse)
    carry_out(kept, lambda c: c.put_item(TableName="t", Item=KEY), "dynamodb", refuse)
    carry_out(kept, lambda c: c.receive_message(QueueUrl=QUEUE), "sqs")  # nothing received
    assert kept._changes == 0
    assert list(kept._journal.entries(0)) == []


def test_a_repeatable_change_is_in_the_journal_when_it_is_answered(kept: keeper.Keeper) -> None:
    with kept.region.lock:  # no snapshot comes between
        carry_out(kept, lambda c: c.put_item(TableName="t", Item=KEY), "dynamodb")
        (written,) = kept._journal.entries(number(kept))
    assert json.loads(written.body)["Item"] == KEY
    until(lambda: kept._saved == kept._changes)


def test_a_change_that_nobody_told_of_is_found(kept: keeper.Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "IDLE_PERIOD", 0.05)
    with kept.region.lock:
        kept.region.kept["quietly"] = True
    kept.changed()
    until(lambda: b"quietly" in (kept.folder / "snapshot").read_bytes())
    with kept.region.lock:
        kept.region.kept["silently"] = True
    until(lambda: b"silently" in (kept.folder / "snapshot").read_bytes())
    still = number(kept)
    time.sleep(0.5)  # several looks
    assert number(kept) == still


def test_requests_are_answered_when_records_cannot_be_kept(kept: keeper.Keeper, caplog: pytest.LogCaptureFixture) -> None:
    kept.region.kept["odd"] = threading.Thread()
    carry_out(kept, lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), "ec2")
    carry_out(kept, lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), "ec2")
    assert caplog.text.count("the records can't be kept: PicklingError: the region:") == 1
    del kept.region.kept["odd"]
    kept.region.kept["even"] = True
    carry_out(kept, lambda c: c.create_vpc(CidrBlock="10.0.0.0/16"), "ec2")
    assert b"even" in (kept.folder / "snapshot").read_bytes()


def test_snapshots_take_a_small_part_of_the_time(kept: keeper.Keeper) -> None:
    kept._cost = 0.1
    kept._changes = 1
    assert kept._rest() == pytest.approx(1.9)
    kept._waiting = 1
    assert kept._rest() == pytest.approx(0.3)
    kept._changes = 0
    assert kept._rest() == 5.0


@pytest.mark.parametrize("name", ["moto", "twin", "boot", "python", "region"])
def test_records_of_another_make_are_not_used(kept: keeper.Keeper, name: str, caplog: pytest.LogCaptureFixture) -> None:
    kept.end()
    again = keeper.Keeper(kept.region, kept.folder)
    assert again.restore()
    file = kept.folder / "snapshot"
    header, _, data = file.read_bytes().partition(b"\n")
    file.write_bytes(json.dumps(json.loads(header) | {name: "another"}).encode() + b"\n" + data)
    assert not again.restore()
    assert "starting anew" in caplog.text
    file.write_bytes(b"nonsense")
    assert not again.restore()


def test_a_route_that_holds_no_lock_is_journaled_without_a_seed(kept: keeper.Keeper) -> None:
    environ, body = request_of(lambda c: c.invoke(FunctionName="f", InvocationType="Event"), "lambda")
    with kept.region.lock:
        kept.carry_out(app, environ, lambda *_: None, body, nullcontext())
        (written,) = kept._journal.entries(number(kept))
    assert written.seed is None
