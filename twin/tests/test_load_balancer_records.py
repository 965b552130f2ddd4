"""What load balancers leave behind: access logs in S3, and metrics."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from datetime import datetime
from typing import Any

import pytest
from balancing import PORT, World
from botocore.exceptions import ClientError
from common import client, until

from twin.bodies.haproxy_log import RequestLog, parse
from twin.control.balancer_metrics import sample

pytest_plugins = ["balancing_fixtures"]

LOGS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html"
ENABLE = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html"
METRICS = "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html"
FIELDS = re.findall(
    r"\w+",
    """
    type time elb client target request_processing_time target_processing_time response_processing_time
    elb_status_code target_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol
    target_group_arn trace_id domain_name chosen_cert_arn matched_rule_priority request_creation_time
    actions_executed redirect_url error_reason target_list target_status_code_list classification
    classification_reason conn_trace_id transformed_host transformed_uri request_transform_status
    """,
)


def bucket(name: str, allowed: str) -> Any:
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{name}/{allowed}",
    }
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return s3


def requests_of(world: World, count: int) -> None:
    """Read HAProxy's lines until metrics count that many answers."""

    def answered() -> bool:
        world.requests.tick()
        name = world.balancer.split("loadbalancer/")[1]
        codes = [f"HTTPCode_{by}_{digit}XX_Count" for by in ("ELB", "Target") for digit in range(2, 6)]
        fixed = sum(world.measured("HTTP_Fixed_Response_Count", LoadBalancer=name))
        return sum(sum(world.measured(code, LoadBalancer=name)) for code in codes) + fixed >= count

    until(answered)


@pytest.mark.rule("load balancing", "An access log entry has AWS's fields in AWS's order, values in AWS's format.", LOGS)
@pytest.mark.rule("load balancing", "Access logs are compressed objects under the documented key.", LOGS)
def test_access_logs(world: World) -> None:
    s3 = bucket("edge-logs", "edge/AWSLogs/123456789012/*")
    world.balancer_attributes(
        access_logs__s3__enabled="true", access_logs__s3__bucket="edge-logs", access_logs__s3__prefix="edge"
    )
    test_file = s3.list_objects_v2(Bucket="edge-logs")["Contents"]
    assert [entry["Key"] for entry in test_file] == ["edge/AWSLogs/123456789012/ELBAccessLogTestFile"]
    _, target = world.healthy_target()
    teapot = {
        "Type": "fixed-response",
        "FixedResponseConfig": {"StatusCode": "418", "ContentType": "text/plain", "MessageBody": "t"},
    }
    world.elbv2.create_rule(
        ListenerArn=world.listener, Priority=7, Conditions=[{"Field": "path-pattern", "Values": ["/tea"]}], Actions=[teapot]
    )
    until(lambda: world.get("/tea")[0] == 418)
    world.requests.tick()
    agent = 'one "two"\tthree \\ é'.encode().decode("latin-1")
    assert world.get("/a%20b?c=d", **{"User-Agent": agent, "Host": "shop.test"})[0] == 200

    def noted() -> bool:
        world.requests.tick()
        return any("/a%20b" in line for line in world.requests.logs._entries.get(world.balancer, []))

    until(noted)
    world.requests.logs.publish(everything=True)
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="edge-logs")["Contents"] if "TestFile" not in entry["Key"]]
    name, identifier = world.balancer.split("/")[-2:]
    assert re.fullmatch(
        rf"edge/AWSLogs/123456789012/elasticloadbalancing/us-east-1/\d{{4}}/\d\d/\d\d/123456789012_elasticloadbalancing"
        rf"_us-east-1_app\.{name}\.{identifier}_\d{{8}}T\d{{4}}Z_10\.0\.\d+\.\d+_[a-z0-9]{{8}}\.log\.gz",
        keys[0],
    )
    lines = [
        line
        for key in keys
        for line in gzip.decompress(s3.get_object(Bucket="edge-logs", Key=key)["Body"].read()).decode().splitlines()
    ]
    entries = [dict(zip(FIELDS, shlex.split(line.replace("\\", "\\\\")), strict=True)) for line in lines]
    forwarded = next(entry for entry in entries if "/a%20b" in entry["request"])
    fixed = next(entry for entry in entries if entry["actions_executed"] == "fixed-response")
    assert (forwarded["type"], forwarded["actions_executed"]) == ("http", "forward")
    assert abs(datetime.fromisoformat(forwarded["time"]).timestamp() - datetime.now().timestamp()) < 60
    assert forwarded["elb"] == f"app/{name}/{identifier}"
    assert forwarded["client"].startswith("127.0.0.1:")
    assert forwarded["target"] == forwarded["target_list"] == f"{target.address}:8080"
    assert (forwarded["elb_status_code"], forwarded["target_status_code"]) == ("200", "200")
    assert forwarded["request"] == f"GET http://shop.test:{PORT}/a%20b?c=d HTTP/1.1"
    assert forwarded["user_agent"].startswith(r"one \x22two\x22\x09three \x5C ")
    assert (forwarded["ssl_cipher"], forwarded["ssl_protocol"], forwarded["domain_name"]) == ("-", "-", "-")
    assert forwarded["target_group_arn"] == world.group
    assert forwarded["trace_id"] == target.requests[-1][1]["x-amzn-trace-id"]
    assert forwarded["matched_rule_priority"] == "0"
    assert re.fullmatch(r"TID_[0-9a-f]{32}", forwarded["conn_trace_id"])
    assert 0 <= float(forwarded["target_processing_time"]) < 10
    assert int(forwarded["received_bytes"]) > 0
    assert int(forwarded["sent_bytes"]) > 0
    assert (fixed["elb_status_code"], fixed["target_status_code"], fixed["target"]) == ("418", "-", "-")
    assert (fixed["matched_rule_priority"], fixed["request_processing_time"]) == ("7", "-1")


@pytest.mark.rule("load balancing", "Access logs can't be turned on for a bucket that is absent or does not let them in.", ENABLE)
def test_buckets_that_take_no_logs(world: World) -> None:
    bucket("closed", "elsewhere/*")
    bucket("open", "*")
    for name, prefix in (("none", ""), ("closed", ""), ("", ""), ("open", "my/AWSLogs")):
        with pytest.raises(ClientError, match="InvalidConfigurationRequest"):
            world.balancer_attributes(
                access_logs__s3__enabled="true", access_logs__s3__bucket=name, access_logs__s3__prefix=prefix
            )
    described = world.elbv2.describe_load_balancer_attributes(LoadBalancerArn=world.balancer)["Attributes"]
    assert {"Key": "access_logs.s3.enabled", "Value": "false"} in described


@pytest.mark.rule("alarms and events", "Requests and codes are counted by load balancer, target group and zone.", METRICS)
@pytest.mark.rule("alarms and events", "Codes of the load balancer's own are counted apart from its targets'.", METRICS)
@pytest.mark.rule("alarms and events", "HealthyHostCount and UnHealthyHostCount follow the targets' health.", METRICS)
def test_metrics(world: World) -> None:
    balancer = {"LoadBalancer": world.balancer.split("loadbalancer/")[1]}
    group = {**balancer, "TargetGroup": world.group.split(":")[-1]}
    assert world.get()[0] == 503
    requests_of(world, 1)
    assert sum(world.measured("HTTPCode_ELB_503_Count", **balancer)) == 1
    assert world.measured("RequestCount", **balancer) == [], "no target was chosen"
    world.healthy_target(zone=0)
    _, failing = world.healthy_target(zone=1)
    assert {world.get()[0] for _ in range(10)} == {200}
    requests_of(world, 11)
    assert sum(world.measured("RequestCount", **balancer)) == 10
    assert sum(world.measured("RequestCount", **group)) == 10
    assert sum(world.measured("RequestCount", **group, AvailabilityZone="us-east-1a")) == 5
    assert sum(world.measured("HTTPCode_Target_2XX_Count", **group)) == 10
    assert sum(world.measured("RequestCountPerTarget", TargetGroup=group["TargetGroup"])) == 5
    times = world.measured("TargetResponseTime", **balancer)
    assert len(times) == 10
    assert all(0 <= value < 10 for value in times)
    assert world.measured("HealthyHostCount", **group)[-1] == 2
    assert world.measured("HealthyHostCount", **group, AvailabilityZone="us-east-1c") == []
    failing.health = 500

    def seen() -> bool:
        world.requests.tick()
        counts = [world.measured(f"{name}HostCount", **group)[-1] for name in ("Healthy", "UnHealthy")]
        return counts == [1, 1]

    until(seen)
    assert world.measured("UnHealthyHostCount", **group, AvailabilityZone="us-east-1b")[-1] == 1
    record = world.region.backend("elbv2").target_groups[world.group]
    record.health_check_interval_seconds = 60
    until(lambda: world.haproxy.served.backends[0].check.interval == 60)
    for target in world.targets:
        target.close()
    assert world.get()[0] == 502
    requests_of(world, 12)
    assert sum(world.measured("TargetConnectionErrorCount", **group)) == 1
    assert sum(world.measured("HTTPCode_ELB_502_Count", **balancer)) == 1


def test_many_response_times_are_sampled_over_their_whole_range() -> None:
    assert sample([3.0, 1.0], 20) == [3.0, 1.0]
    taken = sample([float(number) for number in range(1000)], 20)
    assert (len(taken), taken[0], taken[-1]) == (20, 0.0, 999.0)


def test_lines_that_were_read_take_no_room(world: World) -> None:
    world.healthy_target()
    connection = world.connection()
    for _ in range(300):
        connection.request("GET", "/" + "x" * 200)
        connection.getresponse().read()
    log = RequestLog(world.haproxy.requests.path)
    read: list[Any] = []
    until(lambda: read.extend(log.read()) or len(read) == 300)
    assert log.read() == []
    status = log.path.stat()
    assert status.st_blocks * 512 < status.st_size / 10
    assert world.get("/after")[0] == 200
    assert [each["uri"] for each in until(log.read)] == ["/after"]
    assert parse("Proxy stopped.") is None
