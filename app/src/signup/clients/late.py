"""boto3's clients on a machine that is booting."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from signup.clients.config import CONFIG

# botocore asks once and waits one second, which is little on a machine that starts everything at once.
METADATA_TIMEOUT, METADATA_ATTEMPTS = 2, 3


class LateClient:
    """A boto3 client that is made again as long as no credentials are found.

    botocore looks for credentials when it makes a client, and one that was made without any never gets them: a metadata
    service that answered late, once, would leave the process without AWS for all its life.
    """

    def __init__(self, service: str, region: str | None, at_once: bool = True, config: Config = CONFIG) -> None:
        self._service = service
        self._region = region
        self._config = config
        self._lock = threading.Lock()
        self._client: Any = None
        if at_once:
            with suppress(NoCredentialsError):  # made now if it can be, so that no request waits for it
                self()

    def __call__(self) -> Any:
        """The client. Raises NoCredentialsError while the environment and the metadata service have none."""
        with self._lock:
            if self._client is None:
                core = botocore.session.get_session()
                core.set_config_variable("metadata_service_timeout", METADATA_TIMEOUT)
                core.set_config_variable("metadata_service_num_attempts", METADATA_ATTEMPTS)
                session = boto3.session.Session(botocore_session=core, region_name=self._region)
                if session.get_credentials() is None:
                    raise NoCredentialsError
                self._client = session.client(self._service, config=self._config)  # type: ignore[call-overload]
            return self._client
