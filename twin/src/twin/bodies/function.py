"""Lambda functions: which execution environments there are, what they need, and who may use which.

An environment is kept warm for the next invocation; it ends when it was idle for long or when its function changed.
"""

from __future__ import annotations

import io
import logging
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from twin.bodies import lambda_runtime, netns
from twin.bodies.deaths import Deaths
from twin.bodies.execution_environment import CIDR, SUBNET, VPC, ExecutionEnvironment, Function, Outcome
from twin.bodies.network import Network
from twin.bodies.podman import Podman, PodmanError
from twin.bodies.runtime_api import ADDRESS, PORT, RuntimeApi

log = logging.getLogger(__name__)

IDLE_SECONDS = 300.0
LIFETIME_SECONDS = 2 * 3600.0
# Environments of one function, unless it has reserved concurrency: AWS's limit is 1000 for an account.
CONCURRENCY = 4
MAX_UNZIPPED_BYTES = 250 * 1024 * 1024


class TooManyRequests(Exception):
    """The function's concurrency is used up."""


class InvalidPackage(ValueError):
    """The zip can't be unpacked."""


Credentials = Callable[[str, str, int], tuple[str, str, str]]
PutLogs = Callable[[str, str, list[str]], None]


class Functions:
    """All execution environments of a region.

    `credentials(role_arn, session, seconds)` gives a role's credentials, `put_logs(group, stream, lines)` takes logs.
    """

    def __init__(self, podman: Podman, network: Network, region: str, credentials: Credentials, put_logs: PutLogs) -> None:
        self.podman = podman
        self.network = network
        self.region = region
        self.credentials = credentials
        self.put_logs = put_logs
        self.api = RuntimeApi()
        self.deaths = Deaths(self._on_death)
        self._lock = threading.Lock()
        self._prepare = threading.Lock()
        self._environments: list[ExecutionEnvironment] = []
        self._server: Any = None

    @property
    def folder(self) -> Path:
        return self.podman.settings.state / "volumes" / "functions"

    def code(self, function: Function) -> Path:
        return self.folder / function.name / function.code_sha256[:32]

    def prepare(self, function: Function, package: bytes) -> None:
        """Make everything ready that does not change between environments. Raises InvalidPackage or PodmanError."""
        with self._prepare:
            lambda_runtime.build(self.podman)
            self._open()
            folder = self.code(function)
            if folder.exists():
                return
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            try:
                with zipfile.ZipFile(io.BytesIO(package)) as archive:
                    if sum(entry.file_size for entry in archive.infolist()) > MAX_UNZIPPED_BYTES:
                        raise InvalidPackage(f"Unzipped size must be smaller than {MAX_UNZIPPED_BYTES} bytes")
                    archive.extractall(new)
            except InvalidPackage:
                raise
            except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
                raise InvalidPackage(f"Could not unzip uploaded file: {error}") from None
            # As on AWS, code that its packager made unreadable is readable to the function's user.
            for path in (new, *new.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            lambda_runtime.compile_python(self.podman, new)
            new.rename(folder)

    def invoke(self, function: Function, payload: bytes, request_id: str, concurrency: int = CONCURRENCY) -> Outcome:
        """Run the function once. Raises TooManyRequests, and PodmanError or OSError when no environment can be made."""
        environment = self._take(function, concurrency)
        usable = False
        try:
            outcome, usable = environment.invoke(payload, request_id)
            return outcome
        finally:
            if usable:
                environment.busy = False
            else:
                self._end([environment])

    def retire(self, current: set[Function], idle: float = IDLE_SECONDS) -> None:
        """End the idle environments of functions that changed or went, and those that had nothing to do for `idle` s."""
        now = time.monotonic()
        with self._lock:
            found = [
                environment
                for environment in self._environments
                if not environment.busy
                and (
                    environment.function not in current
                    or now - environment.used > idle
                    or now - environment.created > LIFETIME_SECONDS
                )
            ]
            for environment in found:
                environment.busy = True
        self._end(found)

    def discard(self, functions: set[Function]) -> None:
        """Remove the unpacked code of every version that is not among `functions`."""
        wanted = {self.code(function) for function in functions}
        for folder in self.folder.glob("*/*"):
            if folder.suffix != ".new" and folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove the environments of a twin that was killed."""
        for name in ExecutionEnvironment.left_behind(self.podman.settings):
            self.podman.remove(name)
            shutil.rmtree(ExecutionEnvironment.folder_of(self.podman.settings, name), ignore_errors=True)
        for interface in ExecutionEnvironment.interfaces_left_behind(self.podman.settings):
            self.network.detach(interface)

    def close(self) -> None:
        with self._lock:
            found = list(self._environments)
        self._end(found)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _open(self) -> None:
        """Bring up the functions' network and the runtime API in it."""
        if self._server is not None:
            return
        self.network.ensure_subnet(VPC, SUBNET, CIDR)
        namespace = self.network.namespace(VPC)
        self._server = netns.inside(
            namespace, lambda: make_server(ADDRESS, PORT, self.api, threaded=True, request_handler=_Quiet)
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="runtime api", daemon=True).start()

    def _take(self, function: Function, concurrency: int) -> ExecutionEnvironment:
        with self._lock:
            for environment in self._environments:
                if not environment.busy and environment.function == function:
                    environment.busy = True
                    return environment
            running = [environment for environment in self._environments if environment.function.arn == function.arn]
            # One that is idle but of an older configuration is on its way out.
            if sum(environment.busy for environment in running) >= concurrency:
                raise TooManyRequests(function.arn)
            taken = {environment.address for environment in self._environments}
            # .0 names the network, .1 is the runtime API.
            address = next(a for n in range(2, 1022) if (a := f"169.254.{100 + n // 256}.{n % 256}") not in taken)
            environment = ExecutionEnvironment(self, function, address)
            self._environments.append(environment)
            return environment

    def _end(self, environments: list[ExecutionEnvironment]) -> None:
        for environment in environments:
            try:
                environment.end()
            except (PodmanError, OSError) as error:
                log.warning("%s: %s", environment.name, error)
            with self._lock:
                self._environments.remove(environment)

    def _on_death(self, name: str) -> None:
        with self._lock:
            found = [environment for environment in self._environments if environment.name == name]
            idle = [environment for environment in found if not environment.busy]
            for environment in idle:
                environment.busy = True
        for environment in found:
            environment.channel.close()
        self._end(idle)


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug("%s %s -> %s", self.command, self.path, code)
