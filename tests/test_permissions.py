"""What the fleet's role may do, taken away one permission at a time: exactly that fails."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from support import Platform, wait_until

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError"}
NOBODY = {"token_hash": {"S": "nobody's"}}
ACTIONS = (
    "secretsmanager:GetSecretValue",
    "sns:Publish",
    "dynamodb:GetItem",
    "dynamodb:UpdateItem",
    "s3:PutObject",
    "s3:GetObject",
    "s3:DeleteObject",
)


class Role:
    """The fleet's role: its policy, and clients with the credentials that an instance has."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.iam = platform.target.client("iam")
        self.instance = platform.fleet()[0]["instance"]
        url = "http://169.254.169.254/latest"
        ask = (
            f"t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {url}/api/token); "
            f'get() {{ curl -s -H "X-aws-ec2-metadata-token: $t" {url}/meta-data/iam/security-credentials/$1; }}; '
            "get $(get)"
        )
        key = json.loads(platform.podman("exec", self.instance, "sh", "-c", ask))
        self.session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], key["Token"], region_name=platform.local.region)
        who = self.client("sts").get_caller_identity()["Arn"]
        self.name = who.split("/")[1]
        self.policy = self.iam.get_role_policy(RoleName=self.name, PolicyName="service")["PolicyDocument"]

    def client(self, service: str) -> Any:
        make: Any = self.session.client
        return make(service, endpoint_url=self.platform.local.endpoint_url)

    def write(self, policy: dict[str, Any]) -> None:
        self.iam.put_role_policy(RoleName=self.name, PolicyName="service", PolicyDocument=json.dumps(policy))

    def without(self, action: str) -> dict[str, Any]:
        """The policy with one action less."""
        policy = copy.deepcopy(self.policy)
        for statement in policy["Statement"]:
            listed = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            statement["Action"] = [name for name in listed if name != action]
        policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
        assert policy != self.policy
        return policy

    def attempts(self) -> dict[str, Callable[[], Any]]:
        """Something harmless that needs each action, in an order in which each can succeed."""
        outputs = self.platform.outputs
        secret = self.platform.target.client("rds").describe_db_instances()["DBInstances"][0]["MasterUserSecret"]["SecretArn"]
        table = {"TableName": outputs["token_table_name"], "Key": NOBODY}
        picture = {"Bucket": outputs["picture_bucket"], "Key": self._picture()}
        s3, dynamodb = self.client("s3"), self.client("dynamodb")
        return {
            "secretsmanager:GetSecretValue": lambda: self.client("secretsmanager").get_secret_value(SecretId=secret),
            "sns:Publish": lambda: self.client("sns").publish(TopicArn=outputs["topic_arn"], Message="{}"),
            "dynamodb:GetItem": lambda: dynamodb.get_item(**table),
            "dynamodb:UpdateItem": lambda: dynamodb.update_item(**table, UpdateExpression="REMOVE tried"),
            "s3:PutObject": lambda: s3.put_object(**picture, Body=b"picture"),
            "s3:GetObject": lambda: s3.get_object(**picture),
            "s3:DeleteObject": lambda: s3.delete_object(**picture),
        }

    def refused(self) -> set[str]:
        """The actions that are denied now."""
        self.platform.target.client("s3").put_object(
            Bucket=self.platform.outputs["picture_bucket"], Key=self._picture(), Body=b"picture"
        )
        found = set()
        for action, attempt in self.attempts().items():
            try:
                attempt()
            except ClientError as error:
                if error.response["Error"]["Code"] not in DENIED or action not in str(error):
                    raise
                found.add(action)
        return found

    def _picture(self) -> str:
        """A key in the part of the bucket that the policy names."""
        prefix = next(entry for entry in self.policy["Statement"] if "s3:GetObject" in entry["Action"])["Resource"]
        prefix = prefix[0] if isinstance(prefix, list) else prefix
        return str(prefix.split("/", 1)[1].rstrip("*") + "tried")


@pytest.fixture(scope="module")
def role(platform: Platform) -> Iterator[Role]:
    found = Role(platform)
    yield found
    found.write(found.policy)
    platform.target.client("dynamodb").delete_item(TableName=platform.outputs["token_table_name"], Key=NOBODY)


@pytest.mark.rule(
    "access",
    "An action that no policy allows is denied, whatever else its principal may do.",
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html",
)
@pytest.mark.parametrize("action", ACTIONS)
def test_without_one_permission_exactly_that_fails(role: Role, action: str) -> None:
    role.write(role.policy)
    assert role.refused() == set()
    role.write(role.without(action))
    # The topic's own policy lets the role publish, whatever the role's policy says: within an account either is enough.
    assert role.refused() == ({action} - {"sns:Publish"})
    role.write(role.policy)


def test_the_role_reaches_nothing_else(role: Role) -> None:
    attempts: dict[str, Callable[[], Any]] = {
        "iam:ListUsers": lambda: role.client("iam").list_users(),
        "ec2:TerminateInstances": lambda: role.client("ec2").terminate_instances(InstanceIds=[role.instance]),
        "dynamodb:Scan": lambda: role.client("dynamodb").scan(TableName=role.platform.outputs["token_table_name"]),
        "s3:ListBucket": lambda: role.client("s3").list_objects_v2(Bucket=role.platform.outputs["picture_bucket"]),
        "secretsmanager:GetSecretValue": lambda: role.client("secretsmanager").get_secret_value(
            SecretId="evenkeel/sendgrid-api-key"
        ),
    }
    for action, attempt in attempts.items():
        with pytest.raises(ClientError, match=action) as denied:
            attempt()
        assert denied.value.response["Error"]["Code"] in {*DENIED, "UnauthorizedOperation"}


def test_a_signup_waits_for_the_permission_to_publish(role: Role, platform: Platform) -> None:
    sns = platform.target.client("sns")
    topic = platform.outputs["topic_arn"]
    own = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    owner = {"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": topic}
    sns.set_topic_attributes(
        TopicArn=topic,
        AttributeName="Policy",
        AttributeValue=json.dumps({"Version": "2012-10-17", "Statement": [owner]}),
    )
    email = f"patient-{uuid.uuid4().hex}@example.com"
    try:
        person = {"first_name": "Pat", "last_name": "Ient", "email": email, "password": "it will come in time"}
        assert requests.post(f"{platform.url}/v1/user", json=person, timeout=30).status_code == 201
        log = ("journalctl", "-u", "signup-outbox.service", "--no-pager", "--since=-5min")

        def denied() -> bool:
            rows = platform.fleet()
            return any("AuthorizationError" in platform.podman("exec", row["instance"], *log) for row in rows)

        wait_until("the publisher's complaint", denied)
        assert not platform.mails(email)
    finally:
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=own)
    wait_until("the mail", lambda: platform.mails(email))
