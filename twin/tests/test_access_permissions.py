"""Each permission by itself: a role that lacks one fails exactly there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from access_world import ACCOUNT, GUIDE, Iam, Make, Things, allow, code_of


def permissions(things: Things) -> list[tuple[str, str, Callable[[Make], Any]]]:
    """Action, resource, and a call that needs this one permission and no other."""
    key = {"id": {"S": "a"}}
    update: dict[str, Any] = {"UpdateExpression": "SET v = :v", "ExpressionAttributeValues": {":v": {"N": "1"}}}
    logs = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:group-{things.tag}:*"
    objects = f"arn:aws:s3:::{things.bucket}/pictures/*"
    tag = things.tag
    return [
        ("dynamodb:PutItem", things.tables[0], lambda to: to("dynamodb").put_item(TableName=things.table, Item=key)),
        ("dynamodb:GetItem", things.tables[0], lambda to: to("dynamodb").get_item(TableName=things.table, Key=key)),
        (
            "dynamodb:UpdateItem",
            things.tables[0],
            lambda to: to("dynamodb").update_item(TableName=things.table, Key=key, **update),
        ),
        ("sns:Publish", things.topic, lambda to: to("sns").publish(TopicArn=things.topic, Message="x")),
        (
            "sns:Publish",
            things.topic,
            lambda to: to("sns").publish_batch(TopicArn=things.topic, PublishBatchRequestEntries=[{"Id": "a", "Message": "x"}]),
        ),
        ("sqs:SendMessage", things.queue_arn, lambda to: to("sqs").send_message(QueueUrl=things.queue, MessageBody="x")),
        (
            "sqs:SendMessage",
            things.queue_arn,
            lambda to: to("sqs").send_message_batch(QueueUrl=things.queue, Entries=[{"Id": "a", "MessageBody": "x"}]),
        ),
        ("s3:PutObject", objects, lambda to: to("s3").put_object(Bucket=things.bucket, Key="pictures/a", Body=b"x")),
        ("s3:GetObject", objects, lambda to: to("s3").get_object(Bucket=things.bucket, Key="pictures/a")),
        ("s3:DeleteObject", objects, lambda to: to("s3").delete_object(Bucket=things.bucket, Key="pictures/b")),
        ("s3:ListBucket", f"arn:aws:s3:::{things.bucket}", lambda to: to("s3").list_objects_v2(Bucket=things.bucket)),
        (
            "secretsmanager:GetSecretValue",
            things.secret,
            lambda to: to("secretsmanager").get_secret_value(SecretId=f"secret-{tag}"),
        ),
        (
            "logs:CreateLogStream",
            logs,
            lambda to: to("logs").create_log_stream(logGroupName=f"group-{tag}", logStreamName=uuid.uuid4().hex),
        ),
        (
            "ssm:GetParameter",
            f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/own/*",
            lambda to: to("ssm").get_parameter(Name=f"/own/{tag}"),
        ),
        (
            "cloudwatch:PutMetricData",
            "*",
            lambda to: to("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m"}]),
        ),
        (
            "cloudwatch:SetAlarmState",
            f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:alarm-{tag}",
            lambda to: to("cloudwatch").set_alarm_state(AlarmName=f"alarm-{tag}", StateValue="OK", StateReason="x"),
        ),
        ("ec2:DescribeInstances", "*", lambda to: to("ec2").describe_instances()),
        ("autoscaling:DescribeAutoScalingGroups", "*", lambda to: to("autoscaling").describe_auto_scaling_groups()),
        ("elasticloadbalancing:DescribeLoadBalancers", "*", lambda to: to("elbv2").describe_load_balancers()),
        ("rds:DescribeDBInstances", "*", lambda to: to("rds").describe_db_instances()),
        ("lambda:ListFunctions", "*", lambda to: to("lambda").list_functions()),
        ("events:ListRules", "*", lambda to: to("events").list_rules()),
        ("kms:ListKeys", "*", lambda to: to("kms").list_keys()),
        ("iam:ListRoles", "*", lambda to: to("iam").list_roles()),
        ("acm:ListCertificates", "*", lambda to: to("acm").list_certificates()),
        ("fis:ListExperiments", "*", lambda to: to("fis").list_experiments()),
        ("cloudfront:ListDistributions", "*", lambda to: to("cloudfront").list_distributions()),
        (
            "budgets:ViewBudget",
            f"arn:aws:budgets::{ACCOUNT}:budget/*",
            lambda to: to("budgets").describe_budgets(AccountId=ACCOUNT),
        ),
    ]


DENIALS = {
    "UnauthorizedOperation": ("ec2",),
    "AuthorizationError": ("sns",),
    "AccessDenied": (*("s3", "sqs", "autoscaling", "elasticloadbalancing", "rds", "iam", "sts", "cloudwatch", "cloudfront"),),
}


def denial(action: str) -> str:
    service = action.partition(":")[0]
    return next((code for code, services in DENIALS.items() if service in services), "AccessDeniedException")


@pytest.mark.rule(
    "access",
    "A request is denied unless a policy allows its action; every other permission stays.",
    f"{GUIDE}/reference_policies_evaluation-logic_policy-eval-denyallow.html",
)
def test_a_role_with_one_permission_less_fails_exactly_there(iam: Iam, things: Things) -> None:
    rows = permissions(things)
    role = iam.role(*(allow(action, on=on) for action, on, _ in rows))
    acting = iam.assume(role)
    assert {action: code_of(lambda call=call: call(acting)) for action, _, call in rows} == {action: "" for action, _, _ in rows}
    for missing, _, _ in rows:
        iam.allow(role, *(allow(action, on=on) for action, on, _ in rows if action != missing))
        outcome = {action: code_of(lambda call=call: call(acting)) for action, _, call in rows}
        assert outcome == {action: denial(action) if action == missing else "" for action, _, _ in rows}
