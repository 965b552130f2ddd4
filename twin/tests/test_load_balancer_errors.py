"""What load balancers do not support, or AWS refuses, answers with AWS's own errors."""

from __future__ import annotations

from typing import Any

import pytest
from balancing import PORT, World
from botocore.exceptions import ClientError

pytest_plugins = ["balancing_fixtures"]


def forward(arn: str, **more: Any) -> dict[str, Any]:
    return {"Type": "forward", "TargetGroupArn": arn, **more}


def test_what_the_twin_does_not_support_is_refused(world: World) -> None:
    elbv2 = world.elbv2
    subnets = {"Subnets": world.subnets, "SecurityGroups": [world.security_group]}
    group = {"Protocol": "HTTP", "Port": 80, "VpcId": world.vpc}
    rule = {"ListenerArn": world.listener, "Priority": 9}
    path = [{"Field": "path-pattern", "Values": ["/x"]}]
    pairs = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    oidc = {"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": {
        "UserPoolArn": "a", "UserPoolClientId": "b", "UserPoolDomain": "c"}}  # fmt: skip
    sticky = {"TargetGroups": [{"TargetGroupArn": world.group}],
              "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}  # fmt: skip
    refused: list[tuple[Any, dict[str, Any]]] = [
        (elbv2.create_load_balancer, {"Name": "n", "Type": "network", **subnets}),
        (elbv2.create_load_balancer, {"Name": "n", "IpAddressType": "dualstack", **subnets}),
        (elbv2.set_ip_address_type, {"LoadBalancerArn": world.balancer, "IpAddressType": "dualstack"}),
        (elbv2.create_target_group, {"Name": "n", "TargetType": "lambda"}),
        (elbv2.create_target_group, {"Name": "n", **group, "Protocol": "TCP"}),
        (elbv2.create_target_group, {"Name": "n", **group, "ProtocolVersion": "GRPC"}),
        (elbv2.create_rule, {**rule, "Conditions": path, "Actions": [oidc, forward(world.group, Order=2)]}),
        (elbv2.create_rule, {**rule, "Conditions": path, "Actions": [{"Type": "forward", "ForwardConfig": sticky}]}),
        (elbv2.create_rule, {**rule, "Actions": [forward(world.group)],
                             "Conditions": [{"Field": "query-string", "QueryStringConfig": {"Values": pairs}}]}),
    ]  # fmt: skip
    for key, value in (
        ("routing.http.desync_mitigation_mode", "strictest"),
        ("client_keep_alive.seconds", "60"),
        ("connection_logs.s3.enabled", "true"),
        ("waf.fail_open.enabled", "true"),
    ):
        attribute = {"LoadBalancerArn": world.balancer, "Attributes": [{"Key": key, "Value": value}]}
        refused.append((elbv2.modify_load_balancer_attributes, attribute))
    for key, value in (
        ("load_balancing.algorithm.type", "weighted_random"),
        ("load_balancing.cross_zone.enabled", "false"),
        ("target_group_health.dns_failover.minimum_healthy_targets.count", "2"),
    ):
        attribute = {"TargetGroupArn": world.group, "Attributes": [{"Key": key, "Value": value}]}
        refused.append((elbv2.modify_target_group_attributes, attribute))
    for call, parameters in refused:
        with pytest.raises(ClientError) as error:
            call(**parameters)
        found = error.value.response
        assert found["Error"]["Code"] in ("InvalidConfigurationRequest", "InvalidLoadBalancerAction"), parameters
        assert "not supported by the twin" in found["Error"]["Message"], parameters
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert [rule["Priority"] for rule in elbv2.describe_rules(ListenerArn=world.listener)["Rules"]] == ["default"]
    with pytest.raises(ClientError, match=r"InvalidAction.*not supported by the twin"):
        elbv2.describe_trust_stores()


@pytest.mark.rule(
    "load balancing",
    "Attributes have AWS's defaults and ranges; others are refused.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html",
)
def test_attributes_have_aws_defaults_and_ranges(world: World) -> None:
    def balancer() -> dict[str, str]:
        found = world.elbv2.describe_load_balancer_attributes(LoadBalancerArn=world.balancer)["Attributes"]
        return {attribute["Key"]: attribute["Value"] for attribute in found}

    def group() -> dict[str, str]:
        found = world.elbv2.describe_target_group_attributes(TargetGroupArn=world.group)["Attributes"]
        return {attribute["Key"]: attribute["Value"] for attribute in found}

    assert balancer()["idle_timeout.timeout_seconds"] == "60"
    assert balancer()["routing.http2.enabled"] == "true"
    assert balancer()["load_balancing.cross_zone.enabled"] == "true"
    assert group()["deregistration_delay.timeout_seconds"] == "300"
    assert group()["load_balancing.algorithm.type"] == "round_robin"
    world.attributes(deregistration_delay__timeout_seconds="3600")
    world.balancer_attributes(idle_timeout__timeout_seconds="4000")
    before = (balancer(), group())
    for change in (
        lambda: world.attributes(deregistration_delay__timeout_seconds="3601"),
        lambda: world.attributes(stickiness__enabled="yes"),
        lambda: world.attributes(no__such="1"),
        lambda: world.balancer_attributes(idle_timeout__timeout_seconds="0"),
        lambda: world.balancer_attributes(idle_timeout__timeout_seconds="4001"),
        lambda: world.balancer_attributes(load_balancing__cross_zone__enabled="false"),
        lambda: world.balancer_attributes(no__such="1"),
    ):
        with pytest.raises(ClientError, match=r"ValidationError|InvalidConfigurationRequest"):
            change()
    assert (balancer(), group()) == before


@pytest.mark.rule(
    "load balancing",
    "A target group serves one load balancer, and can't be deleted while a listener or a rule uses it.",
    "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html",
)
def test_target_groups_and_listeners(world: World) -> None:
    other, _ = world.create_load_balancer("other")
    with pytest.raises(ClientError, match="TargetGroupAssociationLimit"):
        world.elbv2.create_listener(LoadBalancerArn=other, Protocol="HTTP", Port=80, DefaultActions=[forward(world.group)])
    spare = world.create_target_group("spare")
    made = world.elbv2.create_listener(LoadBalancerArn=other, Protocol="HTTP", Port=80, DefaultActions=[forward(spare)])
    with pytest.raises(ClientError, match="TargetGroupAssociationLimit"):
        world.elbv2.modify_listener(ListenerArn=made["Listeners"][0]["ListenerArn"], DefaultActions=[forward(world.group)])
    second = world.listen(PORT + 1)
    with pytest.raises(ClientError, match="DuplicateListener"):
        world.elbv2.modify_listener(ListenerArn=second, Port=PORT)
    with pytest.raises(ClientError, match="ResourceInUse"):
        world.elbv2.delete_target_group(TargetGroupArn=spare)
    world.elbv2.delete_load_balancer(LoadBalancerArn=other)
    world.elbv2.delete_target_group(TargetGroupArn=spare)
