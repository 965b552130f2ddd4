"""Policies that resources carry, and what services may do by them: roles, queues, keys, buckets, functions."""

from __future__ import annotations

import json
import uuid

import pytest
import requests
from access_world import ACCOUNT, GUIDE, Iam, Things, allow, refused
from common import until

from twin.bodies.podman import Podman, PodmanError


@pytest.mark.rule(
    "access", "A role can be assumed only by those whom its trust policy names.", f"{GUIDE}/id_roles_terms-and-concepts.html"
)
@pytest.mark.rule(
    "access", "sts:ExternalId must be what the trust policy asks for.", f"{GUIDE}/id_roles_common-scenarios_third-party.html"
)
def test_trust(iam: Iam) -> None:
    service_only = iam.role(allow("*"), trust={"Service": "ec2.amazonaws.com"})
    message = refused(lambda: iam.assume(service_only), "AccessDenied")
    assert message.endswith(
        f"is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::{ACCOUNT}:role/{service_only}"
    )
    refused(lambda: iam.assume("there-is-none"), "AccessDenied")
    trusted = iam.role(allow("sqs:*"))
    condition = {"StringEquals": {"sts:ExternalId": "abc"}}
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Condition": condition,
    }
    iam.iam.update_assume_role_policy(
        RoleName=trusted, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    refused(lambda: iam.assume(trusted), "AccessDenied")
    refused(lambda: iam.assume(trusted, ExternalId="other"), "AccessDenied")
    iam.assume(trusted, ExternalId="abc")("sqs").list_queues()
    # Trust of the account leaves it to the account's own policies who may.
    name, key = iam.user()
    plain = iam.role(allow("sqs:*"))
    arn = f"arn:aws:iam::{ACCOUNT}:role/{plain}"
    sts = iam.session(key["AccessKeyId"], key["SecretAccessKey"])("sts")
    refused(lambda: sts.assume_role(RoleArn=arn, RoleSessionName="test"), "AccessDenied")
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("sts:AssumeRole", on=arn)]})
    iam.iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
    sts.assume_role(RoleArn=arn, RoleSessionName="test")


@pytest.mark.rule(
    "access",
    "Within an account, a resource's policy alone can allow a principal that it names.",
    f"{GUIDE}/reference_policies_evaluation-logic_policy-eval-basics.html",
)
def test_resource_policies(iam: Iam, things: Things) -> None:
    role = iam.role()
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    to = iam.assume(role)
    send = lambda: to("sqs").send_message(QueueUrl=things.queue, MessageBody="x")  # noqa: E731
    refused(send, "AccessDenied")
    statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sqs:SendMessage", "Resource": things.queue_arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    things.sqs.set_queue_attributes(QueueUrl=things.queue, Attributes={"Policy": policy})
    send()
    refused(lambda: to("sqs").receive_message(QueueUrl=things.queue), "AccessDenied")
    things.sqs.set_queue_attributes(QueueUrl=things.queue, Attributes={"Policy": ""})


@pytest.mark.rule(
    "access",
    "No one uses a KMS key without its key policy's consent.",
    "https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html",
)
def test_key_policies(iam: Iam) -> None:
    kms = iam.client("kms")
    everyone = kms.create_key()["KeyMetadata"]["KeyId"]
    acting = iam.acting(allow("kms:*"))
    acting("kms").describe_key(KeyId=everyone)
    operator = iam.sts.get_caller_identity()["Arn"]
    statement = {"Effect": "Allow", "Principal": {"AWS": operator}, "Action": "kms:*", "Resource": "*"}
    kms.put_key_policy(
        KeyId=everyone, PolicyName="default", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    kms.describe_key(KeyId=everyone)
    message = refused(lambda: acting("kms").describe_key(KeyId=everyone), "AccessDeniedException")
    assert "because no resource-based policy allows the kms:DescribeKey action" in message


@pytest.mark.rule(
    "access",
    "A bucket policy that denies what comes without TLS leaves the HTTPS endpoint's clients alone.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html",
)
@pytest.mark.rule(
    "access",
    "A bucket policy can let everyone read objects, with no signature, and nothing else.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html",
)
def test_bucket_policies(iam: Iam, things: Things) -> None:
    bucket = f"policies-{things.tag}"
    s3 = iam.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a", Body=b"hello")
    url = f"{iam.served.endpoint_url}/{bucket}"
    assert requests.get(f"{url}/a", timeout=30).status_code == 403
    every = {"Principal": "*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    tls = {"Effect": "Deny", "Action": "s3:*", **every, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    public = {"Effect": "Allow", "Action": "s3:GetObject", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    kept = {"Effect": "Deny", "Action": "s3:DeleteObject", "Principal": "*", "Resource": f"arn:aws:s3:::{bucket}/kept"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls, public, kept]}))
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"hello"
    assert requests.get(f"{url}/a", timeout=30).content == b"hello"
    assert requests.get(url, timeout=30).status_code == 403
    assert requests.put(f"{url}/b", data=b"x", timeout=30).status_code == 403
    # The same policy the other way round: the condition is looked at.
    reverse = {**tls, "Condition": {"Bool": {"aws:SecureTransport": "true"}}, "Action": "s3:GetObject"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [reverse, kept]}))
    message = refused(lambda: s3.get_object(Bucket=bucket, Key="a"), "AccessDenied")
    assert "with an explicit deny in a resource-based policy" in message
    # Of several objects to delete, only what is denied stays.
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "kept"}]})
    assert [one["Key"] for one in answer["Deleted"]] == ["a"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("kept", "AccessDenied")]


@pytest.mark.rule(
    "access",
    "Without s3:ListBucket, an object that is not there is AccessDenied rather than NoSuchKey.",
    "https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html",
)
def test_missing_objects(iam: Iam, things: Things) -> None:
    read = allow("s3:GetObject", on=f"arn:aws:s3:::{things.bucket}/*")
    blind = iam.acting(read)
    refused(lambda: blind("s3").get_object(Bucket=things.bucket, Key="none"), "AccessDenied")
    seeing = iam.acting(read, allow("s3:ListBucket", on=f"arn:aws:s3:::{things.bucket}"))
    refused(lambda: seeing("s3").get_object(Bucket=things.bucket, Key="none"), "NoSuchKey")


@pytest.mark.rule(
    "access",
    "SNS sends to a queue only if the queue's policy lets it, for this topic.",
    "https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html",
)
def test_services_need_permission_too(iam: Iam, things: Things) -> None:
    sns, sqs = things.sns, things.sqs
    tag = uuid.uuid4().hex[:6]
    topic = sns.create_topic(Name=f"services-{tag}")["TopicArn"]
    other = sns.create_topic(Name=f"others-{tag}")["TopicArn"]
    url = sqs.create_queue(QueueName=f"services-{tag}")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:services-{tag}"
    for one in (topic, other):
        sns.subscribe(TopicArn=one, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    sns.publish(TopicArn=topic, Message="too early")
    service = {"Principal": {"Service": "sns.amazonaws.com"}, "Condition": {"ArnEquals": {"aws:SourceArn": topic}}}
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn, **service}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sns.publish(TopicArn=other, Message="of another topic")
    sns.publish(TopicArn=topic, Message="in time")
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    assert [message["Body"] for message in found] == ["in time"]


@pytest.mark.rule(
    "access",
    "Lambda takes no role whose trust policy does not name it.",
    "https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html",
)
def test_a_function_needs_a_role_it_can_assume(iam: Iam) -> None:
    role = iam.role(trust={"Service": "ec2.amazonaws.com"})
    function = {"FunctionName": "x", "Runtime": "python3.13", "Handler": "a.b", "Code": {"ZipFile": b"x"}}
    message = refused(
        lambda: iam.client("lambda").create_function(**function, Role=f"arn:aws:iam::{ACCOUNT}:role/{role}"),
        "InvalidParameterValueException",
    )
    assert message == "The role defined for the function cannot be assumed by Lambda."


@pytest.mark.rule(
    "access",
    "An instance acts as its profile's role, in a session of its own name; EC2 must be allowed to assume the role.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-roles-for-amazon-ec2.html",
)
def test_instances_act_as_their_role(iam: Iam) -> None:
    ec2 = iam.client("ec2")
    image = ec2.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    role = iam.role(allow("ec2:DescribeVpcs"), trust={"Service": "ec2.amazonaws.com"})
    iam.iam.create_instance_profile(InstanceProfileName=role)
    iam.iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    run = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": role}}
    instance = ec2.run_instances(**run)["Instances"][0]["InstanceId"]
    script = (
        "import json,urllib.request as u;b='http://169.254.169.254/latest/';"
        "t=u.urlopen(u.Request(b+'api/token',method='PUT',headers={'X-aws-ec2-metadata-token-ttl-seconds':'60'})).read().decode();"
        f"print(u.urlopen(u.Request(b+'meta-data/iam/security-credentials/{role}',headers={{'X-aws-ec2-metadata-token':t}})).read().decode())"
    )
    podman = Podman(iam.served)

    def credentials() -> dict[str, str] | None:
        try:
            found: dict[str, str] = json.loads(podman.run("exec", instance, "python3", "-c", script))
        except (PodmanError, ValueError):
            return None
        return found

    found = until(credentials)
    to = iam.session(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
    assert to("sts").get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{instance}"
    to("ec2").describe_vpcs()
    refused(lambda: to("ec2").describe_subnets(), "UnauthorizedOperation")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    iam.iam.update_assume_role_policy(
        RoleName=role, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    again = credentials()
    assert again is not None
    assert again["Code"] == "AssumeRoleUnauthorizedAccess"
    ec2.terminate_instances(InstanceIds=[instance])
