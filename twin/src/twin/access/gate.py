"""The gate before moto: no request gets through without a good signature and a policy that allows it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from twin.access import errors, principals, requests, resource_policies, signatures
from twin.access.actions import Check, checks
from twin.access.context import Context
from twin.access.failures import Failure, Kind
from twin.access.policies import decide
from twin.access.principals import ANONYMOUS, Principal
from twin.access.requests import Call
from twin.access.resources import Resources
from twin.access.signatures import Signature
from twin.region import unsupported

log = logging.getLogger(__name__)

# Condition keys and their values.
Keys = Mapping[str, str | list[str]] | None
# Services that don't give AWS:SourceOwner, which a topic's default policy asks for:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html
_NO_SOURCE_OWNER = ("events.amazonaws.com",)
# moto's own interfaces, which AWS has not: its controls, and metadata for anyone.
CLOSED = ("/moto-api", "/latest/meta-data/", "/latest/api/")
# Services of all regions; their requests are signed for this one.
GLOBAL = ("iam", "sts", "cloudfront", "route53", "budgets", "organizations")
GLOBAL_REGION = "us-east-1"


class Gate:
    """WSGI gate: refuses with the service's own error, or leaves what it found in `environ["twin.call"]`."""

    def __init__(self, region: Any) -> None:
        self.region = region
        self.resources = Resources(region)

    def __call__(self, environ: dict[str, Any]) -> Callable[..., Any] | None:
        call: Call | None = None
        try:
            if environ.get("PATH_INFO", "/").startswith(CLOSED):
                raise Failure(Kind.MISSING_TOKEN)
            signature = signatures.read(environ)
            if signature is None:
                return self._anonymous(environ)
            call = requests.identify(environ, signature.service, signature.region)
            if call.service in self.region.faults.unavailable:
                raise Failure(
                    Kind.OWN, "The request has failed due to a temporary failure of the server.", "ServiceUnavailable", 503
                )
            principal = self._authenticate(environ, signature, call)
            environ["twin.call"], environ["twin.principal"] = call, principal
            requests.parse(call, environ, environ["wsgi.input"])
            environ["twin.denied"] = tuple(self.authorize(principal, call, environ.get("REMOTE_ADDR", "")))
            unsupported.check(call)
            requests.check_required(call)
            self._check_trust(call)
            if "HTTP_AUTHORIZATION" not in environ and call.service != "s3":
                # moto finds a request's service by this header; it takes presigned requests for S3's.
                environ["HTTP_AUTHORIZATION"] = f"{signatures.ALGORITHM} Credential={signature.access_key}/{signature.scope}"
            # moto would let a client choose the account it acts in.
            environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)
        except requests.Unavailable as failure:
            return errors.answer(failure, failure.call)
        except Failure as failure:
            return errors.answer(failure, call or self._guess(environ))
        except Exception:
            log.exception("the gate failed on %s %s", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
            return errors.answer(Failure(Kind.INTERNAL), call or self._guess(environ))
        return None

    def _authenticate(self, environ: dict[str, Any], signature: Signature, call: Call) -> Principal:
        with self.region.lock:
            secret, principal = principals.by_key(self.region.backend("iam"), signature.access_key, signature.token)
        if signature.region not in (self.region.settings.region, GLOBAL_REGION if call.service in GLOBAL else ""):
            here = self.region.settings.region
            words = f"The authorization header is malformed; the region '{signature.region}' is wrong; expecting '{here}'"
            raise Failure(Kind.WRONG_REGION, words)
        signatures.check_time(signature)
        body, digest = requests.read_body(environ, call.service)
        signatures.check(signature, secret, environ, body, digest)
        return principal

    def _anonymous(self, environ: dict[str, Any]) -> Callable[..., Any] | None:
        """Only S3 has objects for everyone, where the bucket's policy says so."""
        call = self._guess(environ)
        if call.service != "s3":
            return errors.answer(Failure(Kind.MISSING_TOKEN), call)
        environ.pop("HTTP_X_MOTO_ACCOUNT_ID", None)
        try:
            requests.read_body(environ, "s3")
            environ["twin.call"], environ["twin.principal"] = call, ANONYMOUS
            if call.method == "OPTIONS":
                return None  # a browser's question before the request itself, which is signed
            requests.parse(call, environ, environ["wsgi.input"])
            if not self._public(call):
                raise Failure(Kind.MISSING_TOKEN)
            environ["twin.denied"] = tuple(self.authorize(ANONYMOUS, call, environ.get("REMOTE_ADDR", "")))
        except Failure as failure:
            return errors.answer(
                Failure(Kind.MISSING_TOKEN) if failure.kind in (Kind.DENIED, Kind.UNKNOWN_ACTION) else failure, call
            )
        return None

    def _public(self, call: Call) -> bool:
        with self.region.lock:
            bucket = self.region.backend("s3").buckets.get(call.parameters.get("Bucket"))
            block = getattr(bucket, "public_access_block", None)
        return not (block is not None and str(block.restrict_public_buckets).lower() == "true")

    def _guess(self, environ: dict[str, Any]) -> Call:
        """Which service's words a refusal is to be put in, when the signature does not say."""
        credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        query = {unquote(name): unquote(value) for name, value in signatures.query_pairs(environ)}
        if len(credential) < 5:
            credential = query.get("X-Amz-Credential", "").split("/")
        region = self.region.settings.region
        try:
            if len(credential) == 5:
                return requests.identify(environ, credential[3], region)
        except requests.Unavailable as failure:
            return failure.call
        if environ.get("HTTP_X_AMZ_TARGET"):
            return Call("", "", region, "json", environ["REQUEST_METHOD"])
        form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
        if form or "Action" in query:
            return Call("", "", region, "query", environ["REQUEST_METHOD"])
        return requests.identify(environ, "s3", region)

    def authorize(self, principal: Principal, call: Call, source_ip: str) -> list[str]:
        """Raises Failure unless policies allow all that the call needs; objects that DeleteObjects must leave are returned."""
        with self.region.lock:
            needed = checks(call, self.resources)
            context = Context(self.region, principal, call, source_ip, {})
            denied = [found for check in needed if (found := self._refused(principal, check, context))]
        if not denied:
            return []
        if call.service == "s3" and call.operation == "DeleteObjects":
            return [check.resource for check, _ in denied]
        check, reason = denied[0]
        raise Failure(Kind.DENIED, sentence(principal, call, check, reason))

    def _refused(self, principal: Principal, check: Check, context: Context) -> tuple[Check, str] | None:
        policy = resource_policies.policy_of(self.region, check.action, check.resource)
        service = check.action.partition(":")[0]
        assuming = check.action == "sts:AssumeRole"
        must_agree = assuming or (service in resource_policies.MUST_AGREE and policy is not None)
        lookup = context.on(check.resource, check.context)
        decision = decide(principal, check.action, check.resource, lookup, policy, must_agree)
        return None if decision.allowed else (check, "" if assuming else decision.reason)

    def _check_trust(self, call: Call) -> None:
        """Lambda takes no role that it can't assume: https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html"""
        role = call.parameters.get("Role") if call.service == "lambda" else None
        if role and not allows_service(self.region, "lambda.amazonaws.com", "sts:AssumeRole", str(role)):
            words = "The role defined for the function cannot be assumed by Lambda."
            raise Failure(Kind.OWN, words, "InvalidParameterValueException")


def sentence(principal: Principal, call: Call, check: Check, reason: str) -> str:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"""
    action, resource = check.action, check.resource
    if call.service == "s3":
        resource = f'"{resource}"'
    elif call.service == "sns":
        action = action.replace("sns:", "SNS:")
        reason = reason.replace("sns:", "SNS:")
    elif call.service == "sqs":
        action, reason = action.lower(), reason.replace(check.action, check.action.lower())
    where = "" if check.resource == "*" else f" on resource: {resource}"
    words = f"User: {principal.arn} is not authorized to perform: {action}{where}"
    before = "You are not authorized to perform this operation. " if call.service == "ec2" else ""
    return f"{before}{words} {reason}".rstrip()


def allows_service(region: Any, service: str, action: str, resource: str, context: Keys = None) -> bool:
    """Whether the resource's own policy lets a service, such as "sns.amazonaws.com", do this to it.

    `context`: condition keys, such as {"aws:SourceArn": topic}; the source's account is this one.
    """
    account = region.settings.account_id
    own = {"aws:sourceaccount": [account]} | _keys(context)
    if service not in _NO_SOURCE_OWNER:
        own["aws:sourceowner"] = [account]
    principal = principals.service(service)
    with region.lock:
        policy = resource_policies.policy_of(region, action, resource)
        lookup = Context(region, principal, None, "", own).on(resource, {})
        return decide(principal, action, resource, lookup, policy, policy_must_agree=True).allowed


def _keys(context: Keys) -> dict[str, list[str]]:
    return {key.lower(): value if isinstance(value, list) else [value] for key, value in (context or {}).items()}


def allows_role(region: Any, role_arn: str, action: str, resource: str, context: Keys = None) -> bool:
    """Whether a role, as a service uses it, may do this: a function's execution role sending to its destination."""
    with region.lock:
        iam = region.backend("iam")
        role = principals.role_by_arn(iam, role_arn)
        if role is None:
            return False
        principal = principals.role_principal(iam, role)
        policy = resource_policies.policy_of(region, action, resource)
        lookup = Context(region, principal, None, "", _keys(context)).on(resource, {})
        return decide(principal, action, resource, lookup, policy).allowed
