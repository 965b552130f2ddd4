"""Lambda functions that really run: a zip of a few lines, AWS's runtime client, containers, queues."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from common import api_of, clear, served_at, undoing, until
from moto.moto_api._internal.models import moto_api_backend

from twin.bodies import netns
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.functions import Functions
from twin.region import access, awslambda
from twin.region.region import Region
from twin.settings import API_ADDRESS, API_PORT, Settings

HANDLER = """
import json, os, sys, time
import boto3
STARTED = time.time()
COUNT = 0
def handle(event, context):
    global COUNT
    COUNT += 1
    print("got", json.dumps(event))
    kind = event.get("kind")
    if kind == "raise":
        raise ValueError("no good: " + event.get("word", ""))
    if kind == "exit":
        sys.exit(3)
    if kind == "sleep":
        time.sleep(event["seconds"])
    if kind == "large":
        return "x" * (7 * 1024 * 1024)
    if kind == "forbidden":
        denied = []
        for path in ("/var/task/new", "/etc/new", "/var/runtime/new"):
            try:
                open(path, "w")
            except OSError:
                denied.append(path)
        open("/tmp/new", "w").write("allowed")
        return denied
    if kind == "import":
        import yaml
    if kind == "queue":
        boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps(event))
    if kind == "who":
        return boto3.client("sts").get_caller_identity()["Arn"]
    return {
        "event": event, "count": COUNT, "word": os.environ.get("WORD"), "user": os.getuid(),
        "left": context.get_remaining_time_in_millis(), "id": context.aws_request_id, "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb, "group": context.log_group_name, "python": sys.version_info[:2],
    }
"""


def package(source: str = HANDLER, name: str = "main.py") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, source)
    return content.getvalue()


@pytest.fixture(scope="module")
def region(twin_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    own = {"name": f"{twin_settings.name}-functions", "state": tmp_path_factory.mktemp("state"), "retry_scale": 0.005}
    settings = replace(twin_settings, **own)
    region = Region(settings, Podman(settings))
    region.podman.configure()
    with ExitStack() as stack:

        def open_vpc(vpc_id: str, namespace: str) -> None:
            netns.inside(namespace, lambda: stack.enter_context(served_at(API_ADDRESS, 80, api_of(region))))

        region.network = Network(settings, open_vpc, lambda vpc_id: None)
        clear(region)
        region.network.open()
        stack.enter_context(undoing())
        awslambda.install(region)
        access.install(region)
        loop = Functions(region)
        region.loops[loop.name] = loop
        loop.start()
        stack.enter_context(served_at(settings.address, API_PORT, api_of(region)))
        yield region
        loop.end()
        loop.join(timeout=30)
        left = region.podman.containers()
    clear(region)
    moto_api_backend.reset()
    assert left == []


class Api:
    def __init__(self, region: Region) -> None:
        iam = region.backend("iam")
        iam.create_user(region.settings.region, "tester")
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_user_policy("tester", "everything", json.dumps(everything))
        key = iam.create_access_key("tester")

        def client(service: str) -> Any:
            session = boto3.Session(key.access_key_id, key.secret_access_key, region_name=region.settings.region)
            make: Any = session.client
            quick = Config(retries={"total_max_attempts": 1})
            return make(service, endpoint_url=region.settings.endpoint_url, config=quick)

        self.region = region
        self.measured: list[tuple[str, dict[str, str], float]] = []
        region.on_metric.append(lambda _, name, dimensions, value, __: self.measured.append((name, dimensions, value)))
        self.functions, self.iam, self.sqs = client("lambda"), client("iam"), client("sqs")
        self.sns, self.logs = client("sns"), client("logs")
        document = {
            "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]
        }
        self.role = self.iam.create_role(RoleName="function", AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
        # What a function sends, it sends as this role.
        send = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}]}
        self.iam.put_role_policy(RoleName="function", PolicyName="send", PolicyDocument=json.dumps(send))

    def create(self, name: str, code: bytes = b"", **options: Any) -> str:
        defaults = {"Runtime": "python3.13", "Handler": "main.handle", "Role": self.role, "Timeout": 10}
        created = self.functions.create_function(
            FunctionName=name, Code={"ZipFile": code or package()}, **{**defaults, **options}
        )
        assert created["State"] == "Pending"
        self.functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
        return str(created["FunctionArn"])

    def invoke(self, name: str, event: Any = None, **options: Any) -> tuple[dict[str, Any], Any]:
        answer = self.functions.invoke(FunctionName=name, Payload=json.dumps(event or {}), **options)
        body = answer["Payload"].read()
        return answer, json.loads(body) if body else None

    def values(self, metric: str, **dimensions: str) -> list[float]:
        """Data points of a metric, in their order."""
        return [value for name, its, value in self.measured if (name, its) == (metric, dimensions)]

    def queue(self, name: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def receive(self, url: str, seconds: float = 30) -> dict[str, Any]:
        def ask() -> list[dict[str, Any]]:
            got: list[dict[str, Any]] = self.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", [])
            return got

        [message] = until(ask, seconds)
        return dict(message)


@pytest.fixture(scope="module")
def api(region: Region) -> Api:
    return Api(region)


def test_a_function_gets_what_lambda_gives_it(api: Api) -> None:
    arn = api.create("plain", MemorySize=256, Environment={"Variables": {"WORD": "two\nlines $HOME 'quoted'"}})
    answer, result = api.invoke("plain", {"a": 1}, LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert result["event"] == {"a": 1}
    assert result["word"] == "two\nlines $HOME 'quoted'"
    assert result["user"] != 0
    assert 8000 < result["left"] <= 10000
    assert (result["arn"], result["memory"], result["group"]) == (arn, "256", "/aws/lambda/plain")
    assert result["python"] == [3, 13]
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert tail.startswith(f"START RequestId: {result['id']} Version: $LATEST\n")
    assert 'got {"a": 1}\n' in tail
    assert "Init Duration" in tail

    # The same environment, warm, serves the next one.
    started = time.monotonic()
    _, again = api.invoke("plain")
    assert again["count"] == 2
    assert time.monotonic() - started < 1
    streams = api.logs.describe_log_streams(logGroupName="/aws/lambda/plain")["logStreams"]
    events = api.logs.get_log_events(logGroupName="/aws/lambda/plain", logStreamName=streams[0]["logStreamName"])["events"]
    assert 'got {"a": 1}' in [event["message"] for event in events]


def test_a_function_is_confined_and_has_its_roles_credentials(api: Api) -> None:
    api.create("confined", Environment={"Variables": {"WORD": "a-secret-word"}})
    assert api.invoke("confined", {"kind": "forbidden"})[1] == ["/var/task/new", "/etc/new", "/var/runtime/new"]
    assert api.invoke("confined", {"kind": "who"})[1].startswith("arn:aws:sts::123456789012:assumed-role/function/")
    # What the zip lacks is lacking, even if the image's own Python has it.
    answer, error = api.invoke("confined", {"kind": "import"})
    assert (answer["FunctionError"], error["errorType"]) == ("Unhandled", "ModuleNotFoundError")
    everything = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "awslambdaric" in everything
    assert "a-secret-word" not in everything
    assert "AWS_SECRET_ACCESS_KEY" not in everything


def test_errors_have_lambdas_shape(api: Api) -> None:
    api.create("failing", Timeout=1)
    answer, error = api.invoke("failing", {"kind": "raise", "word": "x"}, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no good: x")
    assert "[ERROR] ValueError: no good: x" in base64.b64decode(answer["LogResult"]).decode()
    assert api.invoke("failing", {"kind": "large"})[1]["errorType"] == "Function.ResponseSizeTooLarge"
    started = time.monotonic()
    answer, error = api.invoke("failing", {"kind": "sleep", "seconds": 20}, LogType="Tail")
    assert time.monotonic() - started < 5
    assert error["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in base64.b64decode(answer["LogResult"]).decode()
    assert api.invoke("failing")[1]["count"] == 1  # a new environment
    assert api.invoke("failing", {"kind": "exit"})[1]["errorType"] in ("Runtime.ExitError", "SystemExit")


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("absent.handle", "Runtime.ImportModuleError"),
        ("main.absent", "Runtime.HandlerNotFound"),
        ("broken.handle", "Runtime.UserCodeSyntaxError"),
    ],
)
def test_a_function_that_does_not_load_says_why(api: Api, handler: str, kind: str) -> None:
    name = handler.replace(".", "-")
    api.create(name, package("def handle(:", "broken.py") if "broken" in handler else b"", Handler=handler)
    answer, error = api.invoke(name)
    assert (answer["FunctionError"], error["errorType"]) == ("Unhandled", kind)


def test_updates_reach_the_next_invocation(api: Api) -> None:
    api.create("changing", Environment={"Variables": {"WORD": "old"}})
    assert api.invoke("changing")[1]["word"] == "old"
    updated = api.functions.update_function_configuration(FunctionName="changing", Environment={"Variables": {"WORD": "new"}})
    assert updated["LastUpdateStatus"] == "InProgress"
    assert api.invoke("changing")[1]["word"] == "new"
    api.functions.update_function_code(FunctionName="changing", ZipFile=package("def handle(event, context): return 'new code'"))
    api.functions.get_waiter("function_updated_v2").wait(FunctionName="changing", WaiterConfig={"Delay": 0.1})
    assert api.invoke("changing")[1] == "new code"
    with pytest.raises(ClientError, match="Could not unzip"):
        api.functions.update_function_code(FunctionName="changing", ZipFile=b"no zip")
    assert api.invoke("changing")[1] == "new code"

    def containers() -> list[str]:
        return [name for name in api.region.podman.containers() if "changing" in name]

    until(lambda: len(containers()) == 1)
    api.functions.delete_function(FunctionName="changing")
    until(lambda: not containers())
    until(lambda: not list((api.region.settings.state / "volumes/functions/changing").iterdir()))
    with pytest.raises(ClientError, match="Function not found"):
        api.invoke("changing")


def test_concurrent_invocations_have_environments_of_their_own(api: Api) -> None:
    api.create("parallel")
    api.functions.put_function_concurrency(FunctionName="parallel", ReservedConcurrentExecutions=2)
    answers: list[Any] = []

    def sleep() -> None:
        answers.append(api.invoke("parallel", {"kind": "sleep", "seconds": 3})[1]["count"])

    threads = [threading.Thread(target=sleep) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        api.invoke("parallel")
    for thread in threads:
        thread.join()
    assert answers == [1, 1]


def test_failed_events_are_retried_and_then_kept(api: Api) -> None:
    failures, failures_arn = api.queue("failures")
    dead, dead_arn = api.queue("dead")
    arn = api.create("retried", DeadLetterConfig={"TargetArn": dead_arn})
    assert api.functions.get_function(FunctionName="retried")["Configuration"]["DeadLetterConfig"] == {"TargetArn": dead_arn}
    destination = {"OnFailure": {"Destination": failures_arn}}
    for retries in (0, 2):
        api.functions.put_function_event_invoke_config(
            FunctionName="retried", MaximumRetryAttempts=retries, DestinationConfig=destination
        )
    event = {"kind": "raise", "word": "again"}
    answer = api.functions.invoke(FunctionName="retried", InvocationType="Event", Payload=json.dumps(event))
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["StatusCode"] == 202
    record = json.loads(api.receive(failures)["Body"])
    assert record["requestPayload"] == event
    assert record["responsePayload"]["errorMessage"] == "no good: again"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"{arn}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    }
    letter = api.receive(dead)
    assert json.loads(letter["Body"]) == event
    assert letter["MessageAttributes"]["RequestID"]["StringValue"] == request_id
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no good: again"
    until(lambda: api.values("AsyncEventsDropped", FunctionName="retried") == [1])
    assert api.values("Errors", FunctionName="retried") == [1, 1, 1]
    ages = api.values("AsyncEventAge", FunctionName="retried")
    assert ages == sorted(ages)
    assert len(set(ages)) == 3
    assert api.values("DestinationDeliveryFailures", FunctionName="retried") == []


def test_what_a_destination_does_not_take_is_counted(api: Api) -> None:
    _, arn = api.queue("gone")
    api.create("unheard", DeadLetterConfig={"TargetArn": arn})
    api.functions.put_function_event_invoke_config(
        FunctionName="unheard", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    api.sqs.delete_queue(QueueUrl=api.sqs.get_queue_url(QueueName="gone")["QueueUrl"])
    api.functions.invoke(FunctionName="unheard", InvocationType="Event", Payload=json.dumps({"kind": "raise", "word": "lost"}))
    until(lambda: api.values("DeadLetterErrors", FunctionName="unheard") == [1])
    assert api.values("DestinationDeliveryFailures", FunctionName="unheard") == [1]


@pytest.mark.rule(
    "functions",
    "An event that meets the function's concurrency limit is tried again later, and is neither lost nor counted as an attempt.",
    "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html",
)
def test_events_wait_for_reserved_concurrency(api: Api) -> None:
    done, done_arn = api.queue("narrow-done")
    arn = api.create("narrow")
    api.functions.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=1)
    api.functions.put_function_event_invoke_config(
        FunctionName="narrow", MaximumRetryAttempts=0, DestinationConfig={"OnSuccess": {"Destination": done_arn}}
    )
    bodies: Any = api.region.loops["Functions"].bodies
    most = 0
    for number in range(5):
        event = {"kind": "sleep", "seconds": 0.2, "number": number}
        api.functions.invoke(FunctionName="narrow", InvocationType="Event", Payload=json.dumps(event))
    came: list[dict[str, Any]] = []

    def all_came() -> bool:
        nonlocal most
        most = max(most, sum(each.busy for each in list(bodies._environments) if each.function.arn == arn))
        for message in api.sqs.receive_message(QueueUrl=done, MaxNumberOfMessages=10).get("Messages", []):
            came.append(json.loads(message["Body"]))
            api.sqs.delete_message(QueueUrl=done, ReceiptHandle=message["ReceiptHandle"])
        return len(came) == 5

    until(all_came)
    assert most == 1
    assert sorted(record["requestPayload"]["number"] for record in came) == [0, 1, 2, 3, 4]
    assert {record["requestContext"]["approximateInvokeCount"] for record in came} == {1}
    # Meanwhile the limit refused them, which is seen, and so is how long they waited for it.
    assert len(api.values("Throttles", FunctionName="narrow")) >= 4
    assert max(api.values("AsyncEventAge", FunctionName="narrow")) > 600


def test_events_outlive_a_function_that_is_killed(api: Api) -> None:
    """SNS goes on delivering meanwhile: its events wait in Lambda's queue."""
    done, done_arn = api.queue("killed-done")
    source = HANDLER.replace("def handle(event, context):", "def handle(event, context):\n    time.sleep(1)")
    arn = api.create("killed", package(source))
    topic = api.sns.create_topic(Name="to-killed")["TopicArn"]
    permission = {"StatementId": "topic", "Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com"}
    api.functions.add_permission(FunctionName="killed", SourceArn=topic, **permission)
    api.functions.put_function_event_invoke_config(
        FunctionName="killed", MaximumRetryAttempts=2, DestinationConfig={"OnSuccess": {"Destination": done_arn}}
    )
    api.sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    api.sns.publish(TopicArn=topic, Message="first")
    [name] = until(lambda: [name for name in api.region.podman.containers() if "-killed-" in name])
    api.region.podman.run("kill", name)
    api.sns.publish(TopicArn=topic, Message="second")
    records = [json.loads(api.receive(done)["Body"]) for _ in range(2)]
    attempts = {
        record["requestPayload"]["Records"][0]["Sns"]["Message"]: record["requestContext"]["approximateInvokeCount"]
        for record in records
    }
    assert attempts == {"first": 2, "second": 1}


def test_sns_invokes_a_function_with_awss_event(api: Api) -> None:
    url, queue_arn = api.queue("seen")
    environment = {"Variables": {"QUEUE_URL": url.replace(api.region.settings.endpoint_url, f"http://{API_ADDRESS}")}}
    source = HANDLER.replace('kind = event.get("kind")', 'kind = "queue"')
    arn = api.create("subscriber", package(source), Environment=environment)
    topic = api.sns.create_topic(Name="orders")["TopicArn"]
    service = {"Service": "sns.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": service, "Action": "sqs:SendMessage", "Resource": queue_arn}
    api.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [statement]})})
    permission = {"StatementId": "topic", "Action": "lambda:InvokeFunction", "Principal": service["Service"], "SourceArn": topic}
    api.functions.add_permission(FunctionName="subscriber", **permission)
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": queue_arn})}
    subscription = api.sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn, Attributes=redrive)["SubscriptionArn"]
    attributes = {"kind": {"DataType": "String", "StringValue": "order"}}
    message_id = api.sns.publish(TopicArn=topic, Message="hello", MessageAttributes=attributes)["MessageId"]
    [record] = json.loads(api.receive(url)["Body"])["Records"]
    assert (record["EventSource"], record["EventVersion"]) == ("aws:sns", "1.0")
    assert record["EventSubscriptionArn"].startswith(topic)
    content = record["Sns"]
    assert (content["Message"], content["MessageId"], content["TopicArn"]) == ("hello", message_id, topic)
    assert content["MessageAttributes"] == {"kind": {"Type": "String", "Value": "order"}}
    assert content["Subject"] is None
    assert {"Type", "Timestamp", "Signature", "SignatureVersion", "SigningCertUrl", "UnsubscribeUrl"} <= set(content)

    # With the function gone, the subscription's own dead-letter queue keeps the message.
    api.functions.delete_function(FunctionName="subscriber")
    until(lambda: not [name for name in api.region.podman.containers() if "subscriber" in name])
    api.sqs.purge_queue(QueueUrl=url)
    api.sns.publish(TopicArn=topic, Message="too late")
    assert json.loads(api.receive(url)["Body"])["Message"] == "too late"
    until(lambda: api.values("NumberOfNotificationsRedrivenToDlq", TopicName="orders") == [1])
    assert api.values("NumberOfNotificationsFailed", TopicName="orders") == [1]

    # And with its policy gone too, nobody has it: that is counted.
    api.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    api.sns.publish(TopicArn=topic, Message="for nobody")
    until(lambda: api.values("NumberOfNotificationsFailedToRedriveToDlq", TopicName="orders") == [1])
    api.sns.unsubscribe(SubscriptionArn=subscription)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"Runtime": "nodejs22.x"}, "python3.13 only"),
        ({"Architectures": ["arm64"]}, "x86_64"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved keys"),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, "outside VPCs"),
        ({"Code": {"ZipFile": b"no zip"}}, "Could not unzip"),
    ],
)
def test_what_can_not_run_is_refused(api: Api, options: dict[str, Any], words: str) -> None:
    defaults = {"FunctionName": "refused", "Runtime": "python3.13", "Handler": "main.handle", "Role": api.role}
    with pytest.raises(ClientError, match=words):
        api.functions.create_function(**{**defaults, "Code": {"ZipFile": package()}, **options})
    assert "refused" not in [function["FunctionName"] for function in api.functions.list_functions()["Functions"]]


def test_bad_requests_are_refused(api: Api) -> None:
    api.create("strict")
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        api.functions.invoke(FunctionName="strict", Payload=b"{")
    with pytest.raises(ClientError, match="RequestTooLargeException"):
        api.functions.invoke(FunctionName="strict", InvocationType="Event", Payload=json.dumps("x" * 1024 * 1024))
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        api.invoke("nobody")
    assert api.functions.invoke(FunctionName="strict", InvocationType="DryRun")["StatusCode"] == 204


def test_idle_environments_end(api: Api) -> None:
    api.create("idle")
    api.invoke("idle")
    loop: Any = api.region.loops["Functions"]
    assert any("idle" in name for name in api.region.podman.containers())
    loop.bodies.retire({environment.function for environment in loop.bodies._environments}, idle=0)
    assert not any("idle" in name for name in api.region.podman.containers())
    folder: Path = api.region.settings.state / "volumes/environments"
    assert not any("idle" in path.name for path in folder.iterdir())
