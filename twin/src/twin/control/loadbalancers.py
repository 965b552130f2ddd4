"""Load balancers: what the records say becomes HAProxy's configuration, what HAProxy sees becomes target health."""

from __future__ import annotations

import logging
from typing import Any

from twin.bodies import haproxy
from twin.bodies.haproxy import HAProxy, ServerStatus
from twin.bodies.haproxy_config import Backend, Configuration, Frontend, HealthCheck
from twin.bodies.haproxy_process import HAProxyError, holder
from twin.bodies.haproxy_render import render
from twin.control.balancer_config import backend, backend_name, frontend, frontend_name, target_of
from twin.control.loop import Loop
from twin.region.elb_interfaces import interfaces_of
from twin.region.region import Region
from twin.region.target_health import (
    HEALTHY,
    TargetHealth,
    Verdict,
    forget_gone_targets,
    health_of,
    instances,
    load_balancers_of,
    verdicts,
)

log = logging.getLogger(__name__)


def judge(verdict: Verdict, status: ServerStatus, check: HealthCheck, now: float) -> bool:
    """Take HAProxy's view into a target's verdict; True when a new target has passed its first check, which is all it needs."""
    failure = _failure(status)
    if status.up:
        verdict.health = HEALTHY
    elif verdict.health.state != "initial":
        if failure or verdict.health == HEALTHY:
            verdict.health = failure or TargetHealth("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
    elif status.passes:
        return True
    elif failure:
        verdict.failing_since = now if verdict.failing_since is None else verdict.failing_since
        # HAProxy does not count a new server's failed checks; by now there were as many as the threshold, the longest ones even.
        if now - verdict.failing_since >= check.interval * (check.unhealthy - 1) + check.timeout * check.unhealthy:
            verdict.health = failure
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
        self.connections: dict[str, int] = {}  # of clients, by name of frontend
        self._said = ""

    def health(self, target_group_arn: str) -> dict[tuple[str, int], TargetHealth]:
        """Health of the target group's registered and draining targets, by id and port; never waits for HAProxy.

        A target that has drained is not in it any more. Raises KeyError for an unknown target group.
        """
        with self.region.records():
            return health_of(self.region, self.region.backend("elbv2").target_groups[target_group_arn])

    def adopt(self) -> None:
        """Take over what runs, as it runs: no reload if the records say what it serves, and no verdict is lost."""
        with self.region.records():
            vpcs = {balancer.vpc_id for balancer in self.region.backend("elbv2").load_balancers.values()}
        for vpc_id in vpcs:
            body = self._body(vpc_id)
            if body.adopt():
                self.bodies[vpc_id] = body
                log.info("load balancing: found the HAProxy of %s again", vpc_id)
        haproxy.kill_left_behind(self.region.settings, {body.namespace for body in self.bodies.values()})

    def _body(self, vpc_id: str) -> HAProxy:
        return self.bodies.get(vpc_id) or HAProxy(self.region.settings, self.region.network.namespace(vpc_id))

    # The loop

    def tick(self) -> None:
        problems: dict[str, str] = {}
        served = {each.name: each for body in self.bodies.values() for each in body.served.frontends if body.running}
        with self.region.records():
            wanted, backends, nodes = self._read(served, problems)
        free: dict[str, list[Frontend]] = {vpc_id: [] for vpc_id in self.bodies}
        bound = {(each.address, each.port) for each in served.values()}
        for arn, vpc_id, each in wanted:
            taken = None if (each.address, each.port) in bound else self._holder(vpc_id, each)
            if taken:
                problems[arn] = (
                    f"port {each.port} of {each.address} is taken by {taken}: stop it, or give the listener another port"
                )
            else:
                free.setdefault(vpc_id, []).append(each)
        refused = {}
        for vpc_id, frontends in free.items():
            its_nodes = tuple(sorted(nodes.get(vpc_id, ()))) if frontends else ()
            words = self._apply(vpc_id, Configuration(tuple(frontends), tuple(backends.get(vpc_id, ())), its_nodes))
            if words:
                refused[vpc_id] = words
        self._say("; ".join(sorted([*problems.values(), *refused.values()])))
        self._judge()
        self._tell_states(wanted, problems, refused)

    def _read(
        self, served: dict[str, Frontend], problems: dict[str, str]
    ) -> tuple[list[tuple[str, str, Frontend]], dict[str, list[Backend]], dict[str, list[str]]]:
        """What the records ask for: frontends with their load balancer and VPC, and backends and node addresses by VPC."""
        elbv2 = self.region.backend("elbv2")
        known = instances(self.region)
        wanted: list[tuple[str, str, Frontend]] = []
        backends: dict[str, list[Backend]] = {}
        nodes: dict[str, list[str]] = {}
        for group in elbv2.target_groups.values():
            forget_gone_targets(group, known)
            balancers = load_balancers_of(elbv2, group.arn)
            if balancers:
                backends.setdefault(group.vpc_id, []).append(backend(self.region, group, balancers, known))
            else:
                verdicts(group).clear()
        for balancer in elbv2.load_balancers.values():
            addresses = [str(interface.private_ip_address) for interface in interfaces_of(balancer).values()]
            nodes.setdefault(balancer.vpc_id, []).extend(addresses)
            for listener in balancer.listeners.values():
                found = self._frontend(balancer, listener, served, problems)
                if found:
                    wanted.append((balancer.arn, balancer.vpc_id, found))
        return wanted, backends, nodes

    def _frontend(self, balancer: Any, listener: Any, served: dict[str, Frontend], problems: dict[str, str]) -> Frontend | None:
        """The listener as a frontend; as it was when it has become what can't be served."""
        try:
            found = frontend(self.region, balancer, listener, self._body(balancer.vpc_id).certificate)
            render(Configuration((found,)), "", "")  # finds what HAProxy has no words for, before it hinders other listeners
            return found
        except ValueError as error:
            problems[balancer.arn] = str(error)
            return served.get(frontend_name(listener.arn))

    def _holder(self, vpc_id: str, wanted: Frontend) -> str | None:
        """Who else has the listener's address and port; after an adoption it may be our own HAProxy."""
        found = holder(wanted.address, wanted.port)
        own = self.bodies.get(vpc_id)
        return None if found and own and own.running and not own.served.frontends and "haproxy" in found else found

    def _apply(self, vpc_id: str, wanted: Configuration) -> str:
        """Let the VPC's HAProxy serve `wanted`; returns why it does not, if so."""
        try:
            if vpc_id not in self.bodies:
                self.region.network.ensure_vpc(vpc_id)
                self.bodies[vpc_id] = self._body(vpc_id)
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
        seen: dict[str, dict[tuple[str, int], tuple[HAProxy, str, ServerStatus]]] = {}
        connections: dict[str, int] = {}
        for body in self.bodies.values():
            if body.running:
                status = body.status()
                connections.update(status.connections)
                for (name, server), found in status.servers.items():
                    seen.setdefault(name, {})[target_of(server)] = (body, server, found)
        self.connections = connections
        admitted = []
        with self.region.records():
            for group in self.region.backend("elbv2").target_groups.values():
                name = backend_name(group.arn)
                if name not in seen:
                    continue  # HAProxy does not run, or has no target of it
                found_targets = seen[name]
                judged = verdicts(group)
                for key in set(judged) - set(found_targets):
                    del judged[key]
                for key, (body, server, status_of) in found_targets.items():
                    checks = {each.name: each.check for each in body.served.backends}
                    verdict = judged.setdefault(key, Verdict())
                    if name in checks and judge(verdict, status_of, checks[name], self.region.clock()):
                        admitted.append((body, name, server, verdict))
        for body, name, server, verdict in admitted:
            body.admit(name, server)
            with self.region.records():
                verdict.health = HEALTHY
            self.region.wake("Instances")  # it serves now

    def _tell_states(self, wanted: list[tuple[str, str, Frontend]], problems: dict[str, str], refused: dict[str, str]) -> None:
        now_served = {each for body in self.bodies.values() for each in body.served.frontends}
        with self.region.records():
            for balancer in self.region.backend("elbv2").load_balancers.values():
                its = {each for arn, _, each in wanted if arn == balancer.arn}
                if balancer.arn in problems:
                    balancer.state = "active_impaired" if its & now_served else "failed"
                    balancer.state_reason = problems[balancer.arn]
                elif its <= now_served:
                    balancer.state, balancer.state_reason = "active", ""
                elif balancer.vpc_id in refused and balancer.state == "provisioning":
                    balancer.state, balancer.state_reason = "failed", refused[balancer.vpc_id]
