"""Temporary credentials that open what they should: sessions by key, their policies, tags and end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.sts import models
from moto.sts.exceptions import STSValidationError
from moto.sts.responses import TokenResponse
from moto.sts.utils import random_session_token

from twin.access import principals
from twin.access.failures import Failure
from twin.region.patch import replace, wrap
from twin.region.region import Region

# Credentials are remembered for this long after their end, so that they are called expired rather than unknown.
KEPT = timedelta(hours=1)
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 900, 43200, 3600


class UserSession:
    """What GetSessionToken gives a user: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html"""

    def __init__(self, seconds: int) -> None:
        self.session_token = random_session_token()
        self.expiration = utcnow() + timedelta(seconds=seconds)


def install(region: Region) -> None:
    @wrap(models.STSBackend, "assume_role")
    def assume_role(original: Any, self: Any, **options: Any) -> Any:
        _forget_expired(region, self)
        session = original(self, **options)
        session.issued = utcnow()
        # Found by its key from now on: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp.html
        session.access_key.session = session
        return session

    @replace(models.STSBackend, "get_caller_identity")
    def get_caller_identity(self: Any, access_key_id: str, region_name: str) -> tuple[str, str, str]:
        key = region.backend("iam").access_keys.get(access_key_id)
        token = getattr(getattr(key, "session", None), "session_token", None)
        try:
            _, principal = principals.by_key(region.backend("iam"), access_key_id, token)
        except Failure:
            # Only where nothing checked the signature before.
            return "", f"arn:aws:iam::{self.account_id}:root", self.account_id
        return principal.user_id, principal.arn, principal.account

    @replace(TokenResponse, "assume_role")
    def answer_assume_role(self: Any) -> ActionResult:
        arn, name = self._get_param("RoleArn"), self._get_param("RoleSessionName")
        seconds = int(self._get_param("DurationSeconds") or DEFAULT_SECONDS)
        iam = region.backend("iam")
        role = principals.role_by_arn(iam, arn)
        longest = int(getattr(role, "max_session_duration", None) or DEFAULT_SECONDS)
        if seconds < MIN_SECONDS:
            raise STSValidationError(
                f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: "
                f"Member must have value greater than or equal to {MIN_SECONDS}"
            )
        if seconds > longest:
            raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
        session = self.backend.assume_role(
            region_name=self.region,
            role_session_name=name,
            role_arn=arn,
            policy=self._get_param("Policy"),
            duration=seconds,
            external_id=self._get_param("ExternalId"),
        )
        policies = [session.policy] if session.policy else []
        for one in self._get_param("PolicyArns") or []:
            policy = iam.managed_policies.get(one.get("arn") or one.get("Arn"))
            if policy is None:
                raise STSValidationError("The specified session policy does not exist.")
            policies.append(principals.document_of(policy))
        session.session_policies = tuple(policies) if policies else None
        session.session_tags = principals.tag_map(self._get_param("Tags") or [])
        user = {"AssumedRoleId": session.user_id, "Arn": session.arn}
        return ActionResult({"Credentials": session, "AssumedRoleUser": user, "PackedPolicySize": 6 if policies else 0})

    @replace(TokenResponse, "get_session_token")
    def get_session_token(self: Any) -> ActionResult:
        iam = region.backend("iam")
        owner = iam.access_keys[self.get_access_key()]
        key = iam.create_temp_access_key()
        key.user_name = owner.user_name
        key.session = UserSession(int(self._get_param("DurationSeconds") or MAX_SECONDS))
        credentials = {
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
            "SessionToken": key.session.session_token,
            "Expiration": key.session.expiration,
        }
        return ActionResult({"Credentials": credentials})


def _forget_expired(region: Region, sts: Any) -> None:
    """moto keeps every session for ever; a fleet would fill the memory with them."""
    iam = region.backend("iam")
    end = utcnow() - KEPT
    for identifier, key in list(iam.access_keys.items()):
        session = getattr(key, "session", None)
        if session is not None and session.expiration < end:
            del iam.access_keys[identifier]
    sts.assumed_roles = [session for session in sts.assumed_roles if session.expiration >= end]
