"""Who calls: keys, sessions, signatures, clocks and presigned URLs, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.auth
import pytest
import requests
from access_world import ACCOUNT, GUIDE, Iam, Things, allow, refused
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials

from twin.access.signatures import EMPTY, signing_key


@pytest.fixture
def reader(iam: Iam) -> dict[str, str]:
    """A user's key that may do anything."""
    return iam.user(allow("*"))[1]


WRONG = {
    "sqs": ("InvalidClientTokenId", "SignatureDoesNotMatch"),
    "ec2": ("AuthFailure", "AuthFailure"),
    "iam": ("InvalidClientTokenId", "SignatureDoesNotMatch"),
    "dynamodb": ("UnrecognizedClientException", "InvalidSignatureException"),
    "lambda": ("UnrecognizedClientException", "InvalidSignatureException"),
    "s3": ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
    "cloudfront": ("InvalidClientTokenId", "SignatureDoesNotMatch"),
}
LIST = {
    "sqs": "list_queues",
    "ec2": "describe_vpcs",
    "iam": "list_users",
    "dynamodb": "list_tables",
    "lambda": "list_functions",
    "s3": "list_buckets",
    "cloudfront": "list_distributions",
}


@pytest.mark.rule(
    "access",
    "An unknown or inactive key and a wrong signature are refused, with each service's own error.",
    f"{GUIDE}/reference_sigv-troubleshooting.html",
)
@pytest.mark.parametrize("service", WRONG)
def test_wrong_keys(iam: Iam, reader: dict[str, str], service: str) -> None:
    unknown, mismatch = WRONG[service]
    key, secret = reader["AccessKeyId"], reader["SecretAccessKey"]
    call = lambda to: getattr(to(service), LIST[service])()  # noqa: E731
    call(iam.session(key, secret))
    refused(lambda: call(iam.session(key, secret[:-1] + "!")), mismatch)
    refused(lambda: call(iam.session("AKIAIOSFODNN7EXAMPLE", secret)), unknown)
    iam.iam.update_access_key(UserName=reader["UserName"], AccessKeyId=key, Status="Inactive")
    refused(lambda: call(iam.session(key, secret)), unknown)


@pytest.mark.rule(
    "access", "Temporary credentials need their session token, and end.", f"{GUIDE}/id_credentials_temp_use-resources.html"
)
def test_temporary_credentials(iam: Iam) -> None:
    role = iam.role(allow("*"))
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    found = iam.sts.assume_role(RoleArn=arn, RoleSessionName="who", DurationSeconds=900)["Credentials"]
    left = found["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=880) < left < timedelta(seconds=901)
    key, secret, token = found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]
    assert (
        iam.session(key, secret, token)("sts").get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/who"
    )
    refused(lambda: iam.session(key, secret)("sts").get_caller_identity(), "InvalidClientTokenId")
    refused(lambda: iam.session(key, secret, token + "x")("s3").list_buckets(), "InvalidToken")
    longer = {"RoleArn": arn, "RoleSessionName": "test", "DurationSeconds": 3601}
    refused(lambda: iam.sts.assume_role(**longer), "ValidationError")
    iam.iam.update_role(RoleName=role, MaxSessionDuration=7200)
    iam.sts.assume_role(**longer)
    own = iam.sts.get_session_token()["Credentials"]
    own_to = iam.session(own["AccessKeyId"], own["SecretAccessKey"], own["SessionToken"])
    assert own_to("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/operator"
    # A role that is gone opens nothing any more.
    iam.iam.delete_role_policy(RoleName=role, PolicyName="own")
    iam.iam.delete_role(RoleName=role)
    refused(lambda: iam.session(key, secret, token)("sqs").list_queues(), "InvalidClientTokenId")


class Late(datetime):
    """botocore's clock, some minutes off."""

    minutes = 0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime.now(tz) + timedelta(minutes=cls.minutes)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(UTC).replace(tzinfo=None)


@pytest.mark.rule(
    "access",
    "Requests must be signed within five minutes of AWS's clock; S3 allows fifteen.",
    f"{GUIDE}/reference_sigv-troubleshooting.html#reference_sigv-troubleshooting_timestamp",
)
def test_clock_skew(iam: Iam, reader: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    to = iam.session(reader["AccessKeyId"], reader["SecretAccessKey"])
    monkeypatch.setattr(
        botocore.auth,
        "get_current_datetime",
        lambda **options: Late.utcnow() if options.get("remove_tzinfo", True) else Late.now(UTC),
    )
    for minutes in (-10, 10):
        monkeypatch.setattr(Late, "minutes", minutes)
        assert "Signature" in refused(lambda: to("sns").list_topics(), "SignatureDoesNotMatch")
        refused(lambda: to("dynamodb").list_tables(), "InvalidSignatureException")
        refused(lambda: to("ec2").describe_vpcs(), "RequestExpired")
        to("s3").list_buckets()
    monkeypatch.setattr(Late, "minutes", -16)
    refused(lambda: to("s3").list_buckets(), "RequestTimeTooSkewed")
    monkeypatch.setattr(Late, "minutes", -4)
    to("sns").list_topics()


@pytest.mark.rule(
    "access",
    "A presigned URL does what its signer may, until it expires.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html",
)
def test_presigned_urls(iam: Iam, things: Things, reader: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    session = boto3.Session(reader["AccessKeyId"], reader["SecretAccessKey"], region_name="us-east-1")
    make: Any = session.client
    s3 = make("s3", endpoint_url=iam.served.endpoint_url, config=Config(signature_version="s3v4"))
    where = {"Bucket": things.bucket, "Key": "a b/ü+&=.txt"}
    put = s3.generate_presigned_url("put_object", Params=where)
    assert requests.put(put, data=b"presigned", timeout=30).status_code == 200
    get = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=60)
    assert requests.get(get, timeout=30).content == b"presigned"
    assert requests.put(get, data=b"x", timeout=30).status_code == 403
    assert "SignatureDoesNotMatch" in requests.get(get.replace("a%20b", "a%20c"), timeout=30).text
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda **options: datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=61)
    )
    old = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=60)
    assert "Request has expired" in requests.get(old, timeout=30).text
    monkeypatch.undo()
    # A URL signed the old way is refused, as for every bucket since 2020.
    older = make("s3", endpoint_url=iam.served.endpoint_url, config=Config(signature_version="s3"))
    assert (
        "Please use AWS4-HMAC-SHA256" in requests.get(older.generate_presigned_url("get_object", Params=where), timeout=30).text
    )


@pytest.mark.rule(
    "access",
    "A request signed for another region is refused, not answered.",
    f"{GUIDE}/reference_sigv-troubleshooting.html#reference_sigv-troubleshooting_credential-scope",
)
def test_another_region(iam: Iam, reader: dict[str, str]) -> None:
    session = boto3.Session(reader["AccessKeyId"], reader["SecretAccessKey"], region_name="eu-west-1")
    make: Any = session.client
    config = Config(retries={"total_max_attempts": 1})
    codes = {
        "sns": "SignatureDoesNotMatch",
        "ec2": "AuthFailure",
        "dynamodb": "InvalidSignatureException",
        "lambda": "InvalidSignatureException",
    }
    for service, code in codes.items():
        to = make(service, endpoint_url=iam.served.endpoint_url, config=config)
        refused(getattr(to, LIST.get(service, "list_topics")), code)
    s3 = make("s3", endpoint_url=iam.served.endpoint_url, config=config)
    message = refused(lambda: s3.list_buckets(), "AuthorizationHeaderMalformed")
    assert message.endswith("the region 'eu-west-1' is wrong; expecting 'us-east-1'")


def send(
    iam: Iam,
    key: dict[str, str],
    service: str,
    auth: type = SigV4Auth,
    tamper: Callable[[Any], None] | None = None,
    **request: Any,
) -> requests.Response:
    """Sign a request as built here, change it if asked, and send it."""
    url = iam.served.endpoint_url + request.pop("path", "/")
    built = AWSRequest(request.pop("method", "POST"), url, **request)
    auth(Credentials(key["AccessKeyId"], key["SecretAccessKey"]), service, "us-east-1").add_auth(built)
    prepared = built.prepare()
    if tamper:
        tamper(prepared)
    return requests.request(prepared.method, prepared.url, headers=dict(prepared.headers), data=prepared.body, timeout=30)


@pytest.mark.rule(
    "access",
    "A signature is over method, path, query, signed headers and payload: none can be changed on the way.",
    f"{GUIDE}/reference_sigv-create-signed-request.html",
)
def test_what_was_signed_is_what_counts(iam: Iam, things: Things, reader: dict[str, str]) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = "Action=ListUsers&Version=2010-05-08"
    assert send(iam, reader, "iam", data=body, headers=form).status_code == 200

    def other_body(request: Any) -> None:
        request.body = b"Action=ListRoles&Version=2010-05-08"

    def other_host(request: Any) -> None:
        request.headers["Host"] = "elsewhere"

    def other_object(request: Any) -> None:
        request.body = b"other"

    for tamper in (other_body, other_host):
        answer = send(iam, reader, "iam", data=body, headers=form, tamper=tamper)
        assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)
    answer = send(iam, reader, "s3", S3SigV4Auth, other_object, method="PUT", path=f"/{things.bucket}/signed", data=b"x")
    assert "XAmzContentSHA256Mismatch" in answer.text
    # Presigned, for a service other than S3.
    identity = send(iam, reader, "sts", SigV4QueryAuth, method="GET", path="/?Action=GetCallerIdentity&Version=2011-06-15")
    assert f"user/{reader['UserName']}" in identity.text


def test_chunks_are_signed_each(iam: Iam, things: Things, reader: dict[str, str]) -> None:
    """STREAMING-AWS4-HMAC-SHA256-PAYLOAD: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html"""
    chunks = [b"a" * 65536, b"b" * 1000, b""]

    def put(spoil: bool) -> requests.Response:
        url = f"{iam.served.endpoint_url}/{things.bucket}/streamed"
        size = sum(len(chunk) for chunk in chunks)
        headers = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x-amz-decoded-content-length": str(size)}
        built = AWSRequest("PUT", url, headers=headers)

        class Streaming(S3SigV4Auth):
            def payload(self, request: Any) -> str:
                return "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

        Streaming(Credentials(reader["AccessKeyId"], reader["SecretAccessKey"]), "s3", "us-east-1").add_auth(built)
        built.headers.replace_header("X-Amz-Content-SHA256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        previous = built.headers["Authorization"].rpartition("Signature=")[2]
        stamp = built.context["timestamp"]
        key = signing_key(reader["SecretAccessKey"], stamp[:8], "us-east-1", "s3")
        body = b""
        for chunk in chunks:
            text = "\n".join(
                [
                    "AWS4-HMAC-SHA256-PAYLOAD",
                    stamp,
                    f"{stamp[:8]}/us-east-1/s3/aws4_request",
                    previous,
                    EMPTY,
                    hashlib.sha256(chunk).hexdigest(),
                ]
            )
            previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            sent = chunk.replace(b"b", b"c") if spoil else chunk
            body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + sent + b"\r\n"
        return requests.put(url, data=body, headers=dict(built.headers), timeout=30)

    assert put(spoil=False).status_code == 200
    assert iam.client("s3").get_object(Bucket=things.bucket, Key="streamed")["Body"].read() == b"".join(chunks)
    assert "SignatureDoesNotMatch" in put(spoil=True).text


def test_nothing_is_open(iam: Iam, things: Things) -> None:
    url = iam.served.endpoint_url
    for path in (
        "/moto-api/",
        "/moto-api/reset",
        "/latest/meta-data/",
        "/",
        f"/{things.bucket}",
        f"/{things.bucket}/a",
        "/nowhere",
    ):
        for method in ("GET", "POST", "PUT"):
            assert requests.request(method, url + path, timeout=30).status_code == 403, path
    body = {"Action": "ListUsers", "Version": "2010-05-08"}
    answer = requests.post(url, data=body, timeout=30)
    assert (answer.status_code, "MissingAuthenticationToken" in answer.text) == (403, True)
    answer = requests.post(url, json={}, headers={"X-Amz-Target": "DynamoDB_20120810.ListTables"}, timeout=30)
    assert answer.json()["__type"] == "MissingAuthenticationTokenException"
    assert requests.get(f"{url}/_twin/ready", timeout=30).status_code == 200


def test_no_account_but_ones_own(iam: Iam, reader: dict[str, str]) -> None:
    """moto would let a header choose the account."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "x-moto-account-id": "999999999999"}
    answer = send(iam, reader, "iam", data="Action=ListUsers&Version=2010-05-08", headers=form)
    assert "user/operator" in answer.text
