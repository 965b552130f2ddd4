"""The edge of the API: what is unknown, unsupported, malformed or too large gets an error that AWS's clients understand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from common import until

from twin.access import edge
from twin.access.requests import Call
from twin.settings import Settings

COMMON = "https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html"


@pytest.fixture(scope="module")
def key(served: Settings) -> dict[str, str]:
    found: dict[str, str] = json.loads((served.state / "operator.json").read_text())
    return found


@pytest.fixture(scope="module")
def once(served: Settings, key: dict[str, str]) -> Callable[[str], Any]:
    """The operator's clients, without retries."""
    session = boto3.Session(key["access_key_id"], key["secret_access_key"], region_name=served.region)
    make: Any = session.client
    config = Config(retries={"total_max_attempts": 1})
    return lambda service: make(service, endpoint_url=served.endpoint_url, config=config)


@pytest.fixture(scope="module")
def raw(served: Settings, key: dict[str, str]) -> Callable[..., requests.Response]:
    """Sends a signed request as it is given."""

    def send(service: str, data: Any = b"", headers: dict[str, str] | None = None, path: str = "/", method: str = "POST") -> Any:
        built = AWSRequest(method, served.endpoint_url + path, data=data, headers=headers or {})
        auth = S3SigV4Auth if service == "s3" else SigV4Auth
        auth(Credentials(key["access_key_id"], key["secret_access_key"]), service, served.region).add_auth(built)
        prepared = built.prepare()
        return requests.request(method, prepared.url, headers=dict(prepared.headers), data=prepared.body, timeout=120)

    return send


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def code_in(answer: requests.Response) -> str:
    """The error's code in any of AWS's forms; nothing may look like a page for people or a trace."""
    assert "<html" not in answer.text.lower()
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text
    if answer.headers["Content-Type"].startswith("application/") and "xml" not in answer.headers["Content-Type"]:
        assert answer.headers["x-amzn-RequestId"]
        return answer.headers["x-amzn-ErrorType"]
    found = re.search("<Code>(.*?)</Code>", answer.text)
    assert found, answer.text
    assert re.search("<Request(Id|ID)>", answer.text)
    return found[1]


@pytest.mark.rule("access", "An action that a service does not have is InvalidAction, or UnknownOperationException.", COMMON)
@pytest.mark.parametrize(
    ("service", "request_", "status", "code"),
    [
        ("iam", {"data": "Action=MakeTea&Version=2010-05-08", "headers": FORM}, 400, "InvalidAction"),
        ("ec2", {"data": "Action=MakeTea&Version=2016-11-15", "headers": FORM}, 400, "InvalidAction"),
        ("sns", {"data": "Version=2010-03-31", "headers": FORM}, 400, "MissingAction"),
        ("dynamodb", {"data": b"{}", "headers": {"X-Amz-Target": "DynamoDB_20120810.MakeTea"}}, 400, "UnknownOperationException"),
        ("dynamodb", {"data": b"{}", "headers": {"X-Amz-Target": "Kettle.ListTables"}}, 400, "UnknownOperationException"),
        ("lambda", {"path": "/2015-03-31/teapots/", "method": "GET"}, 404, "UnknownOperationException"),
        ("s3", {"path": "/", "method": "DELETE"}, 405, "MethodNotAllowed"),
        ("cloudfront", {"path": "/2020-05-31/teapot", "method": "GET"}, 400, "InvalidAction"),
    ],
)
def test_unknown_actions(raw: Callable[..., requests.Response], service: str, request_: Any, status: int, code: str) -> None:
    answer = raw(service, **request_)
    assert (answer.status_code, code_in(answer)) == (status, code)


def test_a_service_that_an_experiment_takes_away(once: Callable[[str], Any]) -> None:
    iam, fis, ssm = once("iam"), once("fis"), once("ssm")
    trust = {"Effect": "Allow", "Principal": {"Service": "fis.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="taker", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]["Arn"]
    action = {"actionId": "twin:service:unavailable", "parameters": {"service": "ssm", "duration": "PT10M"}}
    made = fis.create_experiment_template(
        description="no parameters", roleArn=role, stopConditions=[{"source": "none"}], actions={"down": action}
    )
    started = fis.start_experiment(experimentTemplateId=made["experimentTemplate"]["id"])["experiment"]["id"]

    def answer() -> tuple[int, str]:
        try:
            return int(ssm.describe_parameters()["ResponseMetadata"]["HTTPStatusCode"]), ""
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"]), error.response["Error"]["Code"]

    until(lambda: answer() == (503, "ServiceUnavailable"))
    assert once("sts").get_caller_identity()["Account"]
    fis.stop_experiment(id=started)
    until(lambda: answer() == (200, ""))


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code"),
    [
        ("ec2", "describe_fleet_history", {"FleetId": "fleet-1", "StartTime": 0}, "UnsupportedOperation"),
        (
            "ec2",
            "create_fleet",
            {"LaunchTemplateConfigs": [], "TargetCapacitySpecification": {"TotalTargetCapacity": 1}},
            "UnsupportedOperation",
        ),
        ("iam", "generate_service_last_accessed_details", {"Arn": "arn:aws:iam::1:role/abcdefgh"}, "InvalidAction"),
        ("dynamodb", "describe_global_table", {"GlobalTableName": "abc"}, "UnsupportedOperation"),
        ("lambda", "list_durable_executions_by_function", {"FunctionName": "abc"}, "UnsupportedOperation"),
        (
            "s3",
            "put_bucket_metrics_configuration",
            {"Bucket": "abc", "Id": "a", "MetricsConfiguration": {"Id": "a"}},
            "NotImplemented",
        ),
        ("cloudfront", "list_field_level_encryption_configs", {}, "InvalidAction"),
        ("sqs", "list_message_move_tasks", {"SourceArn": "arn:aws:sqs:us-east-1:123456789012:abc"}, None),
        ("gamelift", "list_builds", {}, "UnsupportedOperation"),
        (
            "sts",
            "assume_role_with_web_identity",
            {"RoleArn": "arn:aws:iam::123456789012:role/x", "RoleSessionName": "ab", "WebIdentityToken": "abcd"},
            None,
        ),
    ],
)
def test_what_aws_has_and_the_twin_has_not(
    once: Callable[[str], Any], service: str, operation: str, parameters: Any, code: str | None
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(once(service), operation)(**parameters)
    error = caught.value.response["Error"]
    if code is not None:
        assert error["Code"] == code
        assert "is not supported by the twin" in error["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] < 502


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "words"),
    [
        (
            "ec2",
            "run_instances",
            {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "InstanceMarketOptions": {"MarketType": "spot"}},
            "InstanceMarketOptions",
        ),
        (
            "ec2",
            "run_instances",
            {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "HibernationOptions": {"Configured": True}},
            "HibernationOptions.Configured",
        ),
        (
            "ec2",
            "create_launch_template",
            {"LaunchTemplateName": "spot", "LaunchTemplateData": {"InstanceMarketOptions": {"MarketType": "spot"}}},
            "InstanceMarketOptions",
        ),
        (
            "autoscaling",
            "create_auto_scaling_group",
            {
                "AutoScalingGroupName": "x",
                "MinSize": 0,
                "MaxSize": 1,
                "MixedInstancesPolicy": {"InstancesDistribution": {"OnDemandBaseCapacity": 1}},
            },
            "MixedInstancesPolicy",
        ),
        ("autoscaling", "put_warm_pool", {"AutoScalingGroupName": "x"}, "PutWarmPool"),
        (
            "lambda",
            "create_function",
            {
                "FunctionName": "x",
                "Role": "arn:aws:iam::123456789012:role/x",
                "Code": {"ZipFile": b"x"},
                "Architectures": ["arm64"],
            },
            "Architectures",
        ),
        (
            "rds",
            "create_db_instance",
            {
                "DBInstanceIdentifier": "x",
                "DBInstanceClass": "db.t3.micro",
                "Engine": "postgres",
                "EnableIAMDatabaseAuthentication": True,
            },
            "EnableIAMDatabaseAuthentication",
        ),
        ("rds", "create_db_cluster", {"DBClusterIdentifier": "x", "Engine": "aurora-postgresql"}, "CreateDBCluster"),
        ("elbv2", "create_load_balancer", {"Name": "x", "Type": "network", "Subnets": ["subnet-1"]}, "Type network"),
        (
            "wafv2",
            "associate_web_acl",
            {
                "WebACLArn": "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/x/0123456789ab",
                "ResourceArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/x/0123456789abcdef",
            },
            "AssociateWebACL",
        ),
    ],
)
def test_parameters_without_effect_are_refused(
    once: Callable[[str], Any], service: str, operation: str, parameters: Any, words: str
) -> None:
    with pytest.raises(ClientError, match=re.escape(words) + ".* is not supported by the twin"):
        getattr(once(service), operation)(**parameters)


@pytest.mark.rule("access", "A body that can't be read is SerializationException, MalformedQueryString or MalformedXML.", COMMON)
@pytest.mark.parametrize(
    ("service", "request_", "code"),
    [
        ("dynamodb", {"data": b"{", "headers": {"X-Amz-Target": "DynamoDB_20120810.ListTables"}}, "SerializationException"),
        ("dynamodb", {"data": b"[]", "headers": {"X-Amz-Target": "DynamoDB_20120810.ListTables"}}, "SerializationException"),
        ("iam", {"data": b"Action=ListUsers&x=%ff", "headers": FORM}, "MalformedQueryString"),
        ("ec2", {"data": b"Action=RunInstances&MinCount=many", "headers": FORM}, "InvalidParameterValue"),
        ("lambda", {"path": "/2015-03-31/functions", "data": b"{{"}, "SerializationException"),
        ("ec2", {"data": b"Action=CreateSubnet&CidrBlock=10.0.0.0/8", "headers": FORM}, "MissingParameter"),
        ("iam", {"data": b"Action=CreateUser", "headers": FORM}, "ValidationError"),
        ("dynamodb", {"data": b"{}", "headers": {"X-Amz-Target": "DynamoDB_20120810.GetItem"}}, "ValidationException"),
        ("s3", {"path": "/abcd?tagging", "method": "PUT", "data": b"<Tagging"}, "MalformedXML"),
    ],
)
def test_malformed_bodies(raw: Callable[..., requests.Response], service: str, request_: Any, code: str) -> None:
    answer = raw(service, **request_)
    assert (answer.status_code // 100, code_in(answer)) == (4, code)


@pytest.mark.parametrize("service", ["iam", "dynamodb"])
def test_large_bodies_are_not_read(raw: Callable[..., requests.Response], service: str) -> None:
    headers = FORM if service == "iam" else {"X-Amz-Target": "DynamoDB_20120810.ListTables"}
    answer = raw(service, data=b"Action=ListUsers&x=" + b"x" * 18 * 1024 * 1024, headers=headers)
    assert answer.status_code == 413


def test_lambda_takes_large_packages(once: Callable[[str], Any]) -> None:
    """Six megabytes: more than a body is kept in memory for, and a whole JSON document nevertheless."""
    package = {"ZipFile": b"0123456789abcdef" * 384 * 1024}
    role = "arn:aws:iam::123456789012:role/nobody"
    with pytest.raises(ClientError, match="role"):
        once("lambda").create_function(FunctionName="large", Runtime="python3.13", Role=role, Handler="a.b", Code=package)


def test_s3_takes_large_objects(once: Callable[[str], Any]) -> None:
    s3 = once("s3")
    s3.create_bucket(Bucket="large-objects")
    body = b"0123456789abcdef" * 1024 * 1024
    s3.put_object(Bucket="large-objects", Key="a", Body=body)
    assert s3.get_object(Bucket="large-objects", Key="a")["Body"].read() == body


@pytest.mark.parametrize(
    ("service", "protocol", "code"),
    [
        ("iam", "query", "InternalFailure"),
        ("ec2", "ec2", "InternalError"),
        ("sqs", "json", "InternalFailure"),
        ("s3", "rest-xml", "InternalError"),
    ],
)
def test_a_failure_inside_is_an_error_not_a_page(
    caplog: pytest.LogCaptureFixture, service: str, protocol: str, code: str
) -> None:
    def broken(environ: Any, start_response: Any) -> Any:
        raise KeyError("a secret of the implementation")

    started: list[Any] = []
    call = Call(service, service, "us-east-1", protocol, "POST", "DoIt")
    environ = {"twin.call": call, "PATH_INFO": "/", "REQUEST_METHOD": "POST"}
    body = b"".join(edge.guarded(broken, environ, lambda status, headers, exc=None: started.append((status, headers)))).decode()
    assert started[0][0].startswith("500")
    assert code in body
    assert "secret of the implementation" not in body
    assert "secret of the implementation" in caplog.text
