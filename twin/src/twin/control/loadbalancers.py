"""Load balancers: what the records say becomes HAProxy's configuration, what HAProxy sees becomes target health."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from twin.bodies.haproxy import HAProxy, HAProxyError, ServerStatus, holder
from twin.bodies.haproxy_config import (
    Backend,
    Condition,
    Configuration,
    FixedResponse,
    Forward,
    Frontend,
    HealthCheck,
    Redirect,
    Rule,
    Server,
)
from twin.control.loop import Loop
from twin.region.elbv2 import (
    CHECKING,
    DRAINING,
    HEALTHY,
    NOT_IN_USE,
    REGISTERING,
    TargetHealth,
    draining,
    forget_gone_targets,
    target_groups_of,
)
from twin.region.region import Region

log = logging.getLogger(__name__)

Key = tuple[str, str]  # names of backend and server


class Unsupported(ValueError):
    """A record asks for what the local region does not serve."""


@dataclass
class Verdict:
    """What a target's checks say so far."""

    health: TargetHealth = CHECKING
    failing_since: float | None = None

    def update(self, status: ServerStatus, check: HealthCheck, now: float) -> bool:
        """Take in HAProxy's view; True when a new target has passed its first check, which is all it needs."""
        failure = _failure(status)
        if status.up:
            self.health = HEALTHY
        elif self.health.state != "initial":
            if failure or self.health == HEALTHY:
                self.health = failure or TargetHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
        elif status.passes:
            return True
        elif failure:
            self.failing_since = now if self.failing_since is None else self.failing_since
            if now - self.failing_since >= check.interval * (check.unhealthy - 1):
                self.health = failure
        return False


def _failure(status: ServerStatus) -> TargetHealth | None:
    if status.check in ("INI", "") or status.check.endswith("OK"):
        return None
    if status.check.endswith("TOUT"):
        return TargetHealth("unhealthy", "Target.Timeout", "Request timed out")
    if status.check == "L7STS":
        return TargetHealth("unhealthy", "Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status.code}]")
    return TargetHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")


class LoadBalancers(Loop):
    """Keeps HAProxy in step with load balancers, listeners, rules and target groups."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self.bodies: dict[str, HAProxy] = {}  # by VPC id
        self._verdicts: dict[Key, Verdict] = {}
        self._said = ""

    def health(self, target_group_arn: str) -> dict[tuple[str, int], TargetHealth]:
        """Health of the target group's registered and draining targets, by id and port; never waits for HAProxy.

        A target that has drained is not in it any more. Raises KeyError for an unknown target group.
        """
        with self.region.records():
            group = self.region.backend("elbv2").target_groups[target_group_arn]
            used = bool(group.load_balancer_arns)
            found = {}
            for target in group.targets.values():
                key = (target["Id"], int(target["Port"]))
                found[key] = self._health(group, *key) if used else NOT_IN_USE
            found.update({(target.id, target.port): DRAINING for target in draining(group).values()})
            return found

    def _health(self, group: Any, target_id: str, port: int) -> TargetHealth:
        if group.target_type == "instance":
            instance = self.region.ec2.get_instance_by_id(target_id)
            state = instance.state if instance else "terminated"
            if state != "running":
                return TargetHealth("unused", "Target.InvalidState", f"Target is in the {state} state")
        verdict = self._verdicts.get((_backend_name(group.arn), _server_name(target_id, port)))
        return verdict.health if verdict else REGISTERING

    # The loop

    def tick(self) -> None:
        problems: dict[str, str] = {}
        served = {frontend.name: frontend for body in self.bodies.values() for frontend in body.served.frontends if body.running}
        with self.region.records():
            elbv2 = self.region.backend("elbv2")
            for group in elbv2.target_groups.values():
                forget_gone_targets(self.region, group)
            wanted = [
                (balancer.arn, balancer.vpc_id, frontend)
                for balancer in elbv2.load_balancers.values()
                for listener in balancer.listeners.values()
                if (frontend := self._frontend(balancer, listener, served, problems))
            ]
            backends: dict[str, list[Backend]] = {}
            for group in elbv2.target_groups.values():
                if group.load_balancer_arns:
                    backends.setdefault(group.vpc_id, []).append(self._backend(group))
        free: dict[str, list[Frontend]] = {vpc_id: [] for vpc_id in self.bodies}
        bound = {(frontend.address, frontend.port) for frontend in served.values()}
        for arn, vpc_id, frontend in wanted:
            taken = None if (frontend.address, frontend.port) in bound else holder(frontend.address, frontend.port)
            if taken:
                where = f"port {frontend.port} of {frontend.address}"
                problems[arn] = f"{where} is taken by {taken}: stop it, or give the listener another port"
            else:
                free.setdefault(vpc_id, []).append(frontend)
        refused = {
            vpc_id: words
            for vpc_id, frontends in free.items()
            if (words := self._apply(vpc_id, Configuration(tuple(frontends), tuple(backends.get(vpc_id, ())))))
        }
        self._say("; ".join(sorted([*problems.values(), *refused.values()])))
        self._judge()
        now_served = {frontend for body in self.bodies.values() for frontend in body.served.frontends}
        with self.region.records():
            for balancer in self.region.backend("elbv2").load_balancers.values():
                its = {frontend for arn, _, frontend in wanted if arn == balancer.arn}
                if balancer.arn in problems:
                    balancer.state = "active_impaired" if its & now_served else "failed"
                    balancer.state_reason = problems[balancer.arn]
                elif its <= now_served:
                    balancer.state, balancer.state_reason = "active", ""
                elif balancer.vpc_id in refused and balancer.state == "provisioning":
                    balancer.state, balancer.state_reason = "failed", refused[balancer.vpc_id]

    def _apply(self, vpc_id: str, wanted: Configuration) -> str:
        """Let the VPC's HAProxy serve `wanted`; returns why it does not, if so."""
        try:
            if vpc_id not in self.bodies:
                self.bodies[vpc_id] = HAProxy(self.region.settings, self.region.network.ensure_vpc(vpc_id))
            self.bodies[vpc_id].apply(wanted)
        except (HAProxyError, OSError, ValueError) as error:
            return str(error)
        if not wanted.frontends:
            del self.bodies[vpc_id]
        return ""

    def _say(self, words: str) -> None:
        """Log a problem once, not in every round."""
        if words and words != self._said:
            log.error("load balancing: %s", words)
        self._said = words

    def _judge(self) -> None:
        """Take HAProxy's view of every server it serves, and admit new ones that passed a check."""
        verdicts = {}
        for body in self.bodies.values():
            if not body.running:
                continue
            checks = {backend.name: backend.check for backend in body.served.backends}
            for key, status in body.status().items():
                verdict = verdicts[key] = self._verdicts.get(key) or Verdict()
                if verdict.update(status, checks[key[0]], time.monotonic()):
                    body.admit(*key)
                    verdict.health = HEALTHY
        self._verdicts = verdicts

    # Records to configuration

    def _frontend(self, balancer: Any, listener: Any, served: dict[str, Frontend], problems: dict[str, str]) -> Frontend | None:
        """The listener as a frontend; as it was when it has become what can't be served."""
        name = f"listener-{listener.arn.rsplit('/', 1)[1]}"
        try:
            frontend = self._translate(name, balancer, listener)
            Configuration((frontend,)).render("", "")  # finds what HAProxy has no words for, before it hinders other listeners
            return frontend
        except ValueError as error:
            problems[balancer.arn] = str(error)
            return served.get(name)

    def _translate(self, name: str, balancer: Any, listener: Any) -> Frontend:
        if balancer.type != "application":
            raise Unsupported(f"{balancer.type} load balancers are not served here, only application load balancers")
        if listener.protocol != "HTTP":
            raise Unsupported(f"{listener.protocol} listeners are not served here yet, only HTTP")
        rules = sorted((rule for rule in listener.rules.values() if not rule.is_default), key=lambda rule: int(rule.priority))
        return Frontend(
            name=name,
            address=balancer.dns_name,
            port=int(listener.port),
            rules=(*(_rule(rule.conditions, rule.actions) for rule in rules), _rule([], listener.default_actions)),
            idle_timeout=_idle_timeout(balancer),
        )

    def _backend(self, group: Any) -> Backend:
        name = _backend_name(group.arn)
        targets = [(target["Id"], int(target["Port"]), False) for target in group.targets.values()]
        targets += [(target.id, target.port, True) for target in draining(group).values()]
        servers = [server for target in targets if (server := self._server(group, *target))]
        return Backend(
            name=name,
            servers=tuple(servers),
            check=HealthCheck(
                path=group.health_check_path or "/",
                port=None if group.health_check_port == "traffic-port" else int(group.health_check_port),
                matcher=(group.matcher or {}).get("HttpCode") or "200",
                interval=int(group.health_check_interval_seconds),
                timeout=int(group.health_check_timeout_seconds),
                healthy=int(group.healthy_threshold_count),
                unhealthy=int(group.unhealthy_threshold_count),
                tls=group.health_check_protocol == "HTTPS",
            ),
            fail_open=self._fail_open(name, servers),
            tls=group.protocol == "HTTPS",
            idle_timeout=max(
                _idle_timeout(balancer)
                for balancer in self.region.backend("elbv2").load_balancers.values()
                if balancer.arn in group.load_balancer_arns
            ),
        )

    def _server(self, group: Any, target_id: str, port: int, drains: bool) -> Server | None:
        """The target as a server; None while there is nothing to reach."""
        if group.target_type == "ip":
            address = target_id
        else:
            instance = self.region.ec2.get_instance_by_id(target_id)
            if instance is None or instance.state not in ("running", "stopping", "shutting-down") or not instance.private_ip:
                return None
            address = instance.private_ip
            drains = drains or instance.state != "running"
        return Server(_server_name(target_id, port), address, port, drains)

    def _fail_open(self, name: str, servers: list[Server]) -> tuple[str, ...]:
        """With no healthy target, a load balancer sends requests to all unhealthy ones:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html"""
        states = {server.name: self._verdicts.get((name, server.name), Verdict()).health.state for server in servers}
        if "healthy" in states.values():
            return ()
        return tuple(server.name for server in servers if states[server.name] == "unhealthy" and not server.draining)


def _idle_timeout(balancer: Any) -> int:
    return int(balancer.attrs.get("idle_timeout.timeout_seconds") or 60)


def _backend_name(target_group_arn: str) -> str:
    return f"tg-{target_group_arn.rsplit('/', 1)[1]}"


def _server_name(target_id: str, port: int) -> str:
    return f"{target_id}_{port}"


def _rule(conditions: list[dict[str, Any]], actions: list[Any]) -> Rule:
    action = max(actions, key=lambda action: int(action.data.get("Order") or 0))
    if any(other.type.startswith("authenticate") for other in actions):
        raise Unsupported("authenticate actions are not served here")
    return Rule(_action(action), tuple(_condition(condition) for condition in conditions))


def _action(action: Any) -> Forward | FixedResponse | Redirect:
    if action.type == "forward":
        return Forward(tuple((_backend_name(arn), weight) for arn, weight in target_groups_of(action).items()))
    if action.type == "fixed-response":
        config = action.data["FixedResponseConfig"]
        return FixedResponse(int(config["StatusCode"]), config.get("ContentType") or "", config.get("MessageBody") or "")
    config = action.data["RedirectConfig"]
    parts = {part.lower(): config[part] for part in ("Protocol", "Host", "Port", "Path", "Query") if part in config}
    return Redirect(int(config["StatusCode"].removeprefix("HTTP_")), **parts)


def _condition(condition: dict[str, Any]) -> Condition:
    name = str(condition["Field"])
    config = condition.get("".join(word.capitalize() for word in name.split("-")) + "Config") or {}
    values = config.get("Values") or condition.get("Values") or []
    if name == "query-string":
        keys = {value.get("Key", "") for value in values}
        if len(keys) > 1:
            raise Unsupported("a query-string condition on several keys is not served here: use one condition for each key")
        return Condition(name, tuple(value["Value"] for value in values), keys.pop())
    return Condition(name, tuple(values), config.get("HttpHeaderName", ""))
