"""Access control over HTTP: who calls, what policies allow, and how a denial reads."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from access_world import ACCOUNT, GUIDE, Iam, Things, allow, deny, refused


@pytest.mark.rule(
    "access", "A permission for one resource is none for another.", f"{GUIDE}/reference_policies_elements_resource.html"
)
def test_permissions_are_for_resources(iam: Iam, things: Things) -> None:
    acting = iam.acting(
        allow("dynamodb:*", on=things.tables[0]), allow("s3:GetObject", "s3:PutObject", on=f"arn:aws:s3:::{things.bucket}/mine/*")
    )
    message = refused(
        lambda: acting("dynamodb").get_item(TableName=f"two-{things.tag}", Key={"id": {"S": "a"}}), "AccessDeniedException"
    )
    assert f"is not authorized to perform: dynamodb:GetItem on resource: {things.tables[1]} because no identity-based" in message
    acting("s3").put_object(Bucket=things.bucket, Key="mine/a", Body=b"x")
    refused(lambda: acting("s3").put_object(Bucket=things.bucket, Key="yours/a", Body=b"x"), "AccessDenied")
    acting("dynamodb").batch_get_item(RequestItems={things.table: {"Keys": [{"id": {"S": "a"}}]}})
    both = {name: {"Keys": [{"id": {"S": "a"}}]} for name in (things.table, f"two-{things.tag}")}
    refused(lambda: acting("dynamodb").batch_get_item(RequestItems=both), "AccessDeniedException")


@pytest.mark.rule(
    "access",
    'Actions without resource-level permissions need Resource "*".',
    f"{GUIDE}/reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards",
)
def test_describing_needs_all_resources(iam: Iam) -> None:
    narrow = iam.acting(allow("ec2:DescribeInstances", on=f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/*"))
    refused(lambda: narrow("ec2").describe_instances(), "UnauthorizedOperation")


@pytest.mark.rule(
    "access",
    "An explicit deny in any policy outweighs every allow.",
    f"{GUIDE}/reference_policies_evaluation-logic_policy-eval-denyallow.html",
)
def test_an_explicit_deny_wins(iam: Iam, things: Things) -> None:
    acting = iam.acting(allow("*"), deny("sqs:DeleteQueue", on=things.queue_arn))
    message = refused(lambda: acting("sqs").delete_queue(QueueUrl=things.queue), "AccessDenied")
    assert "with an explicit deny in an identity-based policy" in message
    acting("sqs").send_message(QueueUrl=things.queue, MessageBody="x")


@pytest.mark.rule(
    "access", "A permissions boundary limits what identity policies can allow.", f"{GUIDE}/access_policies_boundaries.html"
)
def test_a_boundary_limits(iam: Iam, things: Things) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:*")]})
    boundary = iam.iam.create_policy(PolicyName=f"boundary-{things.tag}", PolicyDocument=document)["Policy"]["Arn"]
    acting = iam.acting(allow("*"), PermissionsBoundary=boundary)
    acting("sqs").list_queues()
    assert "because no permissions boundary allows the SNS:" in refused(
        lambda: acting("sns").publish(TopicArn=things.topic, Message="x"), "AuthorizationError"
    )


@pytest.mark.rule(
    "access",
    "A session's permissions are what both its role's policies and its session policy allow.",
    f"{GUIDE}/access_policies.html#policies_session",
)
def test_a_session_policy_limits(iam: Iam, things: Things) -> None:
    role = iam.role(allow("sqs:*"))
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow("sqs:SendMessage"), allow("sns:*")]})
    acting = iam.assume(role, Policy=policy)
    acting("sqs").send_message(QueueUrl=things.queue, MessageBody="x")
    message = refused(lambda: acting("sqs").receive_message(QueueUrl=things.queue), "AccessDenied")
    assert "because no session policy allows" in message
    refused(lambda: acting("sns").publish(TopicArn=things.topic, Message="x"), "AuthorizationError")


@pytest.mark.rule(
    "access",
    "Tags of principals and of resources can be compared by condition keys and policy variables.",
    f"{GUIDE}/access_tags.html",
)
@pytest.mark.rule(
    "access",
    "A policy variable stands for a value of the request, such as the caller's user name.",
    f"{GUIDE}/reference_policies_variables.html",
)
def test_conditions_and_variables(iam: Iam, things: Things) -> None:
    name, key = iam.user(
        allow("s3:PutObject", on=f"arn:aws:s3:::{things.bucket}/home/${{aws:username}}/*"),
        allow("ec2:DeleteVpc", StringEquals={"ec2:ResourceTag/team": "${aws:PrincipalTag/team}"}),
        allow("s3:ListBucket", on=f"arn:aws:s3:::{things.bucket}", StringLike={"s3:prefix": "home/*"}),
        allow("sqs:ListQueues", IpAddress={"aws:SourceIp": "10.0.0.0/8"}),
        allow("sns:ListTopics", DateLessThan={"aws:CurrentTime": "2020-01-01T00:00:00Z"}),
    )
    to = iam.session(key["AccessKeyId"], key["SecretAccessKey"])
    to("s3").put_object(Bucket=things.bucket, Key=f"home/{name}/a", Body=b"x")
    refused(lambda: to("s3").put_object(Bucket=things.bucket, Key="home/other/a", Body=b"x"), "AccessDenied")
    to("s3").list_objects_v2(Bucket=things.bucket, Prefix="home/a")
    refused(lambda: to("s3").list_objects_v2(Bucket=things.bucket), "AccessDenied")
    refused(lambda: to("sqs").list_queues(), "AccessDenied")
    refused(lambda: to("sns").list_topics(), "AuthorizationError")
    ec2 = iam.client("ec2")
    vpcs = {}
    for team in ("blue", "red"):
        tags = [{"ResourceType": "vpc", "Tags": [{"Key": "team", "Value": team}]}]
        vpcs[team] = ec2.create_vpc(CidrBlock="10.77.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    refused(lambda: to("ec2").delete_vpc(VpcId=vpcs["red"]), "UnauthorizedOperation")
    to("ec2").delete_vpc(VpcId=vpcs["blue"])
    ec2.delete_vpc(VpcId=vpcs["red"])


@pytest.mark.rule(
    "access",
    "aws:RequestTag and aws:TagKeys control which tags a request may give.",
    f"{GUIDE}/access_tags.html#access_tags_control-requests",
)
def test_tags_in_requests(iam: Iam) -> None:
    acting = iam.acting(
        allow(
            "sqs:CreateQueue",
            "sqs:TagQueue",
            StringEquals={"aws:RequestTag/team": "blue"},
            **{"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}},
        )
    )
    name = f"tagged-{uuid.uuid4().hex[:6]}"
    refused(lambda: acting("sqs").create_queue(QueueName=name), "AccessDenied")
    refused(lambda: acting("sqs").create_queue(QueueName=name, tags={"team": "red"}), "AccessDenied")
    refused(lambda: acting("sqs").create_queue(QueueName=name, tags={"team": "blue", "other": "x"}), "AccessDenied")
    acting("sqs").create_queue(QueueName=name, tags={"team": "blue"})


@pytest.mark.rule(
    "access",
    "dynamodb:LeadingKeys limits a principal to items of its own partition keys.",
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html",
)
@pytest.mark.rule(
    "access",
    "A transaction needs the permission of each item's own action.",
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html",
)
def test_dynamodb_keys_and_transactions(iam: Iam, things: Things) -> None:
    leading = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["mine"]}}
    acting = iam.acting(allow("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", on=things.tables[0], **leading))
    to, table = acting("dynamodb"), things.table
    to.get_item(TableName=table, Key={"id": {"S": "mine"}})
    refused(lambda: to.get_item(TableName=table, Key={"id": {"S": "yours"}}), "AccessDeniedException")
    query = {"TableName": table, "KeyConditionExpression": "#k = :v", "ExpressionAttributeNames": {"#k": "id"}}
    to.query(**query, ExpressionAttributeValues={":v": {"S": "mine"}})
    refused(lambda: to.query(**query, ExpressionAttributeValues={":v": {"S": "yours"}}), "AccessDeniedException")
    put = {"Put": {"TableName": table, "Item": {"id": {"S": "mine"}}}}
    to.transact_write_items(TransactItems=[put])
    delete = {"Delete": {"TableName": table, "Key": {"id": {"S": "b"}}}}
    message = refused(lambda: to.transact_write_items(TransactItems=[put, delete]), "AccessDeniedException")
    assert "dynamodb:DeleteItem" in message


@pytest.mark.rule(
    "access", "Handing a role to a service needs iam:PassRole for that role.", f"{GUIDE}/id_roles_use_passrole.html"
)
@pytest.mark.rule(
    "access",
    "iam:PassedToService says which service a role may be passed to.",
    f"{GUIDE}/reference_policies_iam-condition-keys.html#ck_PassedToService",
)
def test_passing_a_role(iam: Iam, things: Things) -> None:
    passed = iam.role(trust={"Service": "fis.amazonaws.com"})
    arn = f"arn:aws:iam::{ACCOUNT}:role/{passed}"
    template = {
        "description": "x",
        "roleArn": arn,
        "stopConditions": [{"source": "none"}],
        "actions": {"wait": {"actionId": "aws:fis:wait", "parameters": {"duration": "PT1M"}}},
        "targets": {},
        "tags": {},
        "clientToken": "x",
    }

    def create(*statements: dict[str, Any]) -> None:
        iam.acting(allow("fis:*"), *statements)("fis").create_experiment_template(**template)

    assert f"iam:PassRole on resource: {arn}" in refused(create, "AccessDeniedException")
    other = allow("iam:PassRole", on=arn, StringEquals={"iam:PassedToService": "lambda.amazonaws.com"})
    refused(lambda: create(other), "AccessDeniedException")
    create(allow("iam:PassRole", on=arn, StringEquals={"iam:PassedToService": "fis.amazonaws.com"}))


@pytest.mark.rule(
    "access",
    "A launch needs ec2:RunInstances on every resource it takes, and iam:PassRole for the profile's role.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html",
)
def test_launching_needs_every_resource(iam: Iam) -> None:
    ec2 = iam.client("ec2")
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    passed = iam.role(trust={"Service": "ec2.amazonaws.com"})
    profile = f"profile-{uuid.uuid4().hex[:6]}"
    iam.iam.create_instance_profile(InstanceProfileName=profile)
    iam.iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=passed)
    data = {"ImageId": image, "InstanceType": "t3.micro", "IamInstanceProfile": {"Name": profile}}
    template = ec2.create_launch_template(LaunchTemplateName=profile, LaunchTemplateData=data)["LaunchTemplate"][
        "LaunchTemplateId"
    ]
    own = [f"arn:aws:ec2:us-east-1:{ACCOUNT}:{kind}/*" for kind in ("instance", "volume", "network-interface", "security-group")]
    parts = [
        *own,
        f"arn:aws:ec2:us-east-1::image/{image}",
        f"arn:aws:ec2:us-east-1:{ACCOUNT}:subnet/{subnet}",
        f"arn:aws:ec2:us-east-1:{ACCOUNT}:launch-template/{template}",
    ]
    role = iam.role()
    acting = iam.assume(role)("ec2")

    def launch(**options: Any) -> None:
        # DryRun says whether the launch would have been allowed.
        acting.run_instances(
            LaunchTemplate={"LaunchTemplateId": template}, SubnetId=subnet, MinCount=1, MaxCount=1, DryRun=True, **options
        )

    passing = allow("iam:PassRole", on=f"arn:aws:iam::{ACCOUNT}:role/{passed}")
    iam.allow(role, allow("ec2:RunInstances", on=parts), passing)
    refused(launch, "DryRunOperation")
    for missing in parts:
        iam.allow(role, allow("ec2:RunInstances", on=[part for part in parts if part != missing]), passing)
        assert missing in refused(launch, "UnauthorizedOperation")
    iam.allow(role, allow("ec2:RunInstances", on=parts))
    assert "iam:PassRole" in refused(launch, "UnauthorizedOperation")
    iam.allow(role, allow("ec2:RunInstances", on=parts), passing)
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    assert "ec2:CreateTags" in refused(lambda: launch(TagSpecifications=tags), "UnauthorizedOperation")


@pytest.mark.rule(
    "access",
    "Who names a launch template for an instance refresh must be allowed to launch from it, and to pass its profile's role.",
    "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html",
)
def test_refreshing_needs_the_right_to_launch(iam: Iam) -> None:
    ec2, scaling = iam.client("ec2"), iam.client("autoscaling")
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    passed, name = iam.role(trust={"Service": "ec2.amazonaws.com"}), f"refreshed-{uuid.uuid4().hex[:6]}"
    iam.iam.create_instance_profile(InstanceProfileName=name)
    iam.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=passed)
    data = {"ImageId": image, "InstanceType": "t3.micro", "IamInstanceProfile": {"Name": name}}
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateId"]
    wanted = {"LaunchTemplateId": template, "Version": "1"}
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=0, MaxSize=1, DesiredCapacity=0, LaunchTemplate=wanted, VPCZoneIdentifier=subnet
    )
    role = iam.role()
    acting = iam.assume(role)("autoscaling")

    def refresh(**options: Any) -> None:
        acting.start_instance_refresh(AutoScalingGroupName=name, **options)

    desired = {"DesiredConfiguration": {"LaunchTemplate": wanted}}
    start, run = allow("autoscaling:StartInstanceRefresh"), allow("ec2:RunInstances")
    iam.allow(role, start)
    assert "ec2:RunInstances" in refused(lambda: refresh(**desired), "AccessDenied")
    iam.allow(role, start, run)
    assert "iam:PassRole" in refused(lambda: refresh(**desired), "AccessDenied")
    iam.allow(role, start, run, allow("iam:PassRole", on=f"arn:aws:iam::{ACCOUNT}:role/{passed}"))
    refresh(**desired)
    scaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


@pytest.mark.rule(
    "access",
    "A launch can be bound to a launch template, to the resources that it names, and to an image's owner.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/permissions-for-launch-templates.html",
)
def test_launching_within_conditions(iam: Iam) -> None:
    ec2 = iam.client("ec2")
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    name = f"bound-{uuid.uuid4().hex[:6]}"
    data = {"ImageId": image, "InstanceType": "t3.micro"}
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateId"]
    arn = f"arn:aws:ec2:us-east-1:{ACCOUNT}:launch-template/{template}"
    role = iam.role()
    acting = iam.assume(role)("ec2")

    def launch(**options: Any) -> None:
        acting.run_instances(MinCount=1, MaxCount=1, DryRun=True, **options)

    bound = {"ArnEquals": {"ec2:LaunchTemplate": arn}, "Bool": {"ec2:IsLaunchTemplateResource": "true"}}
    iam.allow(role, allow("ec2:RunInstances", **bound))
    refused(lambda: launch(LaunchTemplate={"LaunchTemplateId": template}), "DryRunOperation")
    assert image in refused(lambda: launch(LaunchTemplate={"LaunchTemplateId": template}, ImageId=image), "UnauthorizedOperation")
    refused(lambda: launch(**data), "UnauthorizedOperation")

    others = [f"arn:aws:ec2:us-east-1:{ACCOUNT}:*", "arn:aws:ec2:us-east-1::snapshot/*"]
    images = "arn:aws:ec2:us-east-1::image/*"
    for owner, code in (("136693071363", "DryRunOperation"), (ACCOUNT, "UnauthorizedOperation")):
        by_owner = allow("ec2:RunInstances", on=images, StringEquals={"ec2:Owner": owner})
        iam.allow(role, allow("ec2:RunInstances", on=others), by_owner)
        refused(lambda: launch(**data), code)


@pytest.mark.rule(
    "access",
    "A key pair is known by its name before it is made, so a policy can bind its creation to names.",
    "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html",
)
def test_key_pairs_by_name(iam: Iam) -> None:
    acting = iam.acting(allow("ec2:CreateKeyPair", "ec2:DeleteKeyPair", on=f"arn:aws:ec2:us-east-1:{ACCOUNT}:key-pair/mine-*"))
    name = f"mine-{uuid.uuid4().hex[:6]}"
    acting("ec2").create_key_pair(KeyName=name)
    acting("ec2").delete_key_pair(KeyName=name)
    assert "key-pair/other" in refused(lambda: acting("ec2").create_key_pair(KeyName="other"), "UnauthorizedOperation")


@pytest.mark.rule(
    "access",
    "Groups give their policies to their users, and AWS-managed policies allow what they say.",
    f"{GUIDE}/access_policies_managed-vs-inline.html",
)
def test_groups_and_managed_policies(iam: Iam) -> None:
    name, key = iam.user()
    to = iam.session(key["AccessKeyId"], key["SecretAccessKey"])
    refused(lambda: to("sqs").list_queues(), "AccessDenied")
    group = f"group-{uuid.uuid4().hex[:6]}"
    iam.iam.create_group(GroupName=group)
    iam.iam.attach_group_policy(GroupName=group, PolicyArn="arn:aws:iam::aws:policy/AmazonSQSReadOnlyAccess")
    iam.iam.add_user_to_group(GroupName=group, UserName=name)
    to("sqs").list_queues()
    refused(lambda: to("sqs").create_queue(QueueName="x"), "AccessDenied")
