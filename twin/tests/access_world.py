"""Principals made to order, and one resource of each kind that policies name."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from twin.settings import Settings

GUIDE = "https://docs.aws.amazon.com/IAM/latest/UserGuide"
ACCOUNT = "123456789012"
Make = Callable[[str], Any]


class Iam:
    """The operator's clients, and principals made to order: each a role that the operator assumes, or a user."""

    def __init__(self, served: Settings, client: Make) -> None:
        self.served = served
        self.client = client
        self.iam, self.sts = client("iam"), client("sts")

    def session(self, key: str, secret: str, token: str | None = None) -> Make:
        session = boto3.Session(key, secret, token, region_name=self.served.region)
        config = Config(retries={"total_max_attempts": 1}, signature_version=None, s3={"addressing_style": "path"})
        make: Any = session.client
        return functools.cache(lambda service: make(service, endpoint_url=self.served.endpoint_url, config=config))

    def role(self, *statements: dict[str, Any], **options: Any) -> str:
        """A role with these statements; its name."""
        name = f"role-{uuid.uuid4().hex[:8]}"
        trust = options.pop("trust", None) or {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
        document = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": trust}]}
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document), **options)
        if statements:
            self.allow(name, *statements)
        return name

    def allow(self, role: str, *statements: dict[str, Any]) -> None:
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        self.iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=json.dumps(document))

    def assume(self, role: str, **options: Any) -> Make:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        found = self.sts.assume_role(RoleArn=arn, RoleSessionName="test", **options)["Credentials"]
        return self.session(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])

    def acting(self, *statements: dict[str, Any], **options: Any) -> Make:
        """Clients of a new role with these statements."""
        return self.assume(self.role(*statements, **options))

    def user(self, *statements: dict[str, Any]) -> tuple[str, dict[str, str]]:
        name = f"user-{uuid.uuid4().hex[:8]}"
        self.iam.create_user(UserName=name, Tags=[{"Key": "team", "Value": "blue"}])
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            self.iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
        key: dict[str, str] = self.iam.create_access_key(UserName=name)["AccessKey"]
        return name, key


def allow(*actions: str, on: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    return {**statement, "Condition": condition} if condition else statement


def deny(*actions: str, on: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    return {**allow(*actions, on=on, **condition), "Effect": "Deny"}


def code_of(call: Callable[[], Any]) -> str:
    """The error code of a call, or "" when it goes through."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def refused(call: Callable[[], Any], code: str) -> str:
    """Assert that a call fails with this code; its message."""
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return str(caught.value.response["Error"]["Message"])


class Things:
    """One resource of each kind that the platform's policies name, and a second of some."""

    def __init__(self, client: Make) -> None:
        self.dynamodb, self.s3, self.sns, self.sqs = (client(name) for name in ("dynamodb", "s3", "sns", "sqs"))
        self.tag = uuid.uuid4().hex[:8]
        self.tables = []
        for name in (f"one-{self.tag}", f"two-{self.tag}"):
            table = self.dynamodb.create_table(
                TableName=name,
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
            self.tables.append(table["TableDescription"]["TableArn"])
        self.table = f"one-{self.tag}"
        self.bucket = f"bucket-{self.tag}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.topic = self.sns.create_topic(Name=f"topic-{self.tag}")["TopicArn"]
        self.queue = self.sqs.create_queue(QueueName=f"queue-{self.tag}")["QueueUrl"]
        self.queue_arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:queue-{self.tag}"
        self.secret = client("secretsmanager").create_secret(Name=f"secret-{self.tag}", SecretString="x")["ARN"]
        client("logs").create_log_group(logGroupName=f"group-{self.tag}")
        client("ssm").put_parameter(Name=f"/own/{self.tag}", Value="x", Type="String")
        client("cloudwatch").put_metric_alarm(
            AlarmName=f"alarm-{self.tag}",
            MetricName="m",
            Namespace="n",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Statistic="Sum",
        )
