"""The instance metadata service, version 2. The standard library alone: a process that polls it all its life stays small."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request

ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
TOKEN_SECONDS = 21600
TIMEOUT = 2
UNAUTHORIZED, NOT_FOUND = 401, 404


class MetadataUnavailable(Exception):
    """The metadata service did not answer as it should; the text says how."""


class Metadata:
    """Reads metadata with a session token, which is renewed when the service refuses it."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = (endpoint or os.environ.get(ENDPOINT_VARIABLE) or "http://169.254.169.254").rstrip("/")
        # No proxy, whatever the environment says: the service is on this machine's own link.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._token: str | None = None

    def instance_id(self) -> str:
        """This instance's id. Raises MetadataUnavailable."""
        found = self._read("instance-id")
        if not found:
            raise MetadataUnavailable("it has no instance-id")
        return found

    def target_lifecycle_state(self) -> str | None:
        """The state that Auto Scaling is taking this instance to; None outside a group. Raises MetadataUnavailable.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html
        """
        return self._read("autoscaling/target-lifecycle-state")

    def _read(self, leaf: str) -> str | None:
        for last in (False, True):
            try:
                return self._get(leaf)
            except urllib.error.HTTPError as error:
                if error.code == NOT_FOUND:
                    return None
                if error.code != UNAUTHORIZED or last:
                    raise MetadataUnavailable(f"HTTP {error.code}") from error
                self._token = None  # expired
            except (OSError, http.client.HTTPException) as error:
                raise MetadataUnavailable(str(getattr(error, "reason", None) or type(error).__name__)) from error
        return None

    def _get(self, leaf: str) -> str:
        if self._token is None:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = self._ask("PUT", "/latest/api/token", lifetime)
        return self._ask("GET", f"/latest/meta-data/{leaf}", {"X-aws-ec2-metadata-token": self._token})

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)
        with self._opener.open(request, timeout=TIMEOUT) as answer:
            return str(answer.read().decode().strip())
