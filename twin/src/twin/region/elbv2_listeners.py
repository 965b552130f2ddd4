"""Listeners and rules: certificates, security policies, and what the twin's load balancers can't do is refused."""

from __future__ import annotations

from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateListenerError
from moto.elbv2.responses import ELBV2Response
from moto.elbv2.ssl_policies import SSL_POLICIES

from twin.region.acm import find_certificate
from twin.region.elbv2_attributes import refused
from twin.region.patch import replace, wrap
from twin.region.region import Region
from twin.region.target_health import load_balancers_of, target_groups_of

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
DEFAULT_POLICY = "ELBSecurityPolicy-2016-08"


def install(region: Region) -> None:
    _install_listeners(region)
    _install_rules()
    _install_certificates(region)
    _install_requests()


def _install_listeners(region: Region) -> None:
    @wrap(models.ELBv2Backend, "create_listener")
    def create_listener(original: Any, self: Any, **options: Any) -> Any:
        balancer = self.load_balancers.get(options["load_balancer_arn"])
        if balancer and any(str(listener.port) == str(options["port"]) for listener in balancer.listeners.values()):
            raise DuplicateListenerError()
        _refuse_actions(self, options["load_balancer_arn"], options["actions"])
        if options["protocol"] == "HTTPS":
            _check_policy(options["ssl_policy"])
            if not options["certificate"]:
                raise refused("A certificate must be specified for HTTPS listeners", "ValidationError")
            _check_certificates(region, [options["certificate"]])
        elif options["certificate"]:
            raise refused("Certificates cannot be specified for HTTP listeners", "ValidationError")
        listener = original(self, **options)
        if listener.protocol != "HTTPS":
            listener.ssl_policy = None
        return listener

    @wrap(models.ELBv2Backend, "modify_listener")
    def modify_listener(
        original: Any, self: Any, arn: str, port: Any, protocol: Any, policy: Any, certificates: Any, actions: Any
    ) -> Any:
        listener = self.describe_listeners(None, [arn])[0]
        if protocol not in (None, "HTTP", "HTTPS"):
            raise refused(f"Protocol {protocol} is not supported for load balancers of type 'application'", "UnsupportedProtocol")
        others = self.load_balancers[listener.load_balancer_arn].listeners.values()
        if port and any(str(other.port) == str(port) for other in others if other.arn != arn):
            raise DuplicateListenerError()
        _refuse_actions(self, listener.load_balancer_arn, actions or [])
        arns = [certificate["CertificateArn"] for certificate in certificates or []]
        if len(arns) > 1:
            raise refused("Up to one certificate can be specified", "ValidationError")
        https = (protocol or listener.protocol) == "HTTPS"
        if https:
            _check_certificates(region, arns)
            _check_policy(policy or listener.ssl_policy or DEFAULT_POLICY)
            if not arns and not listener.certificate:
                raise refused("A certificate must be specified for HTTPS listeners", "ValidationError")
        # moto would forget the certificates that were added for SNI, and check the new one's attributes its own way.
        added = [certificate for certificate in listener.certificates if certificate != listener.certificate]
        modified = original(self, arn, port, protocol, policy, certificates or [], actions or [])
        if not https:
            listener.certificate, listener.certificates, listener.ssl_policy = None, [], None
        else:
            listener.certificate = arns[0] if arns else listener.certificate
            listener.certificates = [listener.certificate, *(other for other in added if other != listener.certificate)]
            listener.ssl_policy = policy or listener.ssl_policy or DEFAULT_POLICY
        return modified


def _install_rules() -> None:
    @wrap(models.ELBv2Backend, "create_rule")
    def create_rule(original: Any, self: Any, **options: Any) -> Any:
        for listener in self.describe_listeners(None, [options["listener_arn"]]):
            _refuse_actions(self, listener.load_balancer_arn, options["actions"])
        _refuse_conditions(options["conditions"])
        return original(self, **options)

    @wrap(models.ELBv2Backend, "modify_rule")
    def modify_rule(original: Any, self: Any, rule_arn: str, conditions: Any, actions: Any) -> Any:
        for rule in self.describe_rules(None, [rule_arn]):
            for listener in self.describe_listeners(None, [rule.listener_arn]):
                _refuse_actions(self, listener.load_balancer_arn, actions or [])
        _refuse_conditions(conditions or [])
        return original(self, rule_arn=rule_arn, conditions=conditions, actions=actions)


def _install_certificates(region: Region) -> None:
    @wrap(models.ELBv2Backend, "add_listener_certificates")
    def add_listener_certificates(original: Any, self: Any, arn: str, certificates: list[dict[str, Any]]) -> Any:
        listener = self.describe_listeners(None, [arn])[0]
        if listener.protocol != "HTTPS":
            raise refused("Certificates cannot be added to a listener that is not HTTPS", "ValidationError")
        arns = [certificate["CertificateArn"] for certificate in certificates]
        _check_certificates(region, arns)
        new = [{"CertificateArn": other} for other in arns if other not in listener.certificates]
        original(self, arn, new)
        return arns

    @wrap(models.ELBv2Backend, "remove_listener_certificates")
    def remove_listener_certificates(original: Any, self: Any, arn: str, certificates: list[dict[str, Any]]) -> Any:
        listener = self.describe_listeners(None, [arn])[0]
        if any(certificate["CertificateArn"] == listener.certificate for certificate in certificates):
            raise refused("You cannot remove the default certificate of a listener", "OperationNotPermitted")
        return original(self, arn, certificates)


def _install_requests() -> None:
    """Parameters that moto does not look at."""

    @wrap(ELBV2Response, "create_listener")
    def create_listener(original: Any, self: Any) -> Any:
        _refuse_mutual_tls(self._get_params())
        return original(self)

    @wrap(ELBV2Response, "modify_listener")
    def modify_listener(original: Any, self: Any) -> Any:
        _refuse_mutual_tls(self._get_params())
        return original(self)

    @wrap(ELBV2Response, "create_rule")
    def create_rule(original: Any, self: Any) -> Any:
        if self._get_params().get("Transforms"):
            raise refused("Transforms are not supported by the twin")
        return original(self)

    @replace(ELBV2Response, "describe_ssl_policies")
    def describe_ssl_policies(self: Any) -> Any:
        from moto.core.responses import ActionResult
        from moto.elbv2.ssl_policies import build_policy

        names = self._get_param("Names", []) or list(SSL_POLICIES)
        for name in names:
            _check_policy(name)
        return ActionResult({"SslPolicies": [build_policy(name, SSL_POLICIES[name]) for name in dict.fromkeys(names)]})


def _refuse_mutual_tls(params: dict[str, Any]) -> None:
    if (params.get("MutualAuthentication") or {}).get("Mode", "off") != "off":
        raise refused("Mutual TLS authentication is not supported by the twin")
    if len(params.get("Certificates") or []) > 1:
        raise refused("Up to one certificate can be specified", "ValidationError")
    if params.get("AlpnPolicy"):
        raise refused("ALPN policies are supported on TLS listeners only", "InvalidConfigurationRequest")


def _check_policy(name: str) -> None:
    if name not in SSL_POLICIES:
        raise refused(f"SSL policy '{name}' not found", "SSLPolicyNotFound")


def _check_certificates(region: Region, arns: list[str]) -> None:
    for arn in arns:
        found = find_certificate(region, arn)
        if found is None:
            raise refused(f"Certificate '{arn}' not found", "CertificateNotFound")
        if not found.issued:
            raise refused(
                f"The certificate '{arn}' must have a fully-qualified domain name, a supported signature, and a supported key"
                " size.",
                "UnsupportedCertificate",
            )


def _refuse_actions(backend: Any, load_balancer_arn: str, actions: list[dict[str, Any]]) -> None:
    for data in actions:
        action = models.FakeAction(data)
        kind = str(data.get("Type"))
        if kind.startswith(("authenticate-", "jwt-")):
            raise refused(f"Actions of type '{kind}' are not supported by the twin", "InvalidLoadBalancerAction")
        sticky = (data.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig") or {}
        if str(sticky.get("Enabled", False)).lower() == "true":
            raise refused("Target group stickiness is not supported by the twin", "InvalidLoadBalancerAction")
        for arn in target_groups_of(action):
            if any(balancer.arn != load_balancer_arn for balancer in load_balancers_of(backend, arn)):
                raise refused(
                    f"The following target groups cannot be associated with more than one load balancer: {arn}",
                    "TargetGroupAssociationLimit",
                )


def _refuse_conditions(conditions: list[dict[str, Any]]) -> None:
    for condition in conditions:
        for name, config in condition.items():
            if isinstance(config, dict) and config.get("RegexValues"):
                raise refused(f"RegexValues in {name} are not supported by the twin")
        pairs = (condition.get("QueryStringConfig") or {}).get("Values") or []
        if len({pair.get("Key", "") for pair in pairs}) > 1:
            raise refused("A query-string condition on several keys is not supported by the twin: use a condition for each")
