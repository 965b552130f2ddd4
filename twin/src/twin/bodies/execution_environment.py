"""An execution environment: one function in one container, for one invocation at a time.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import base64
import json
import os
import queue
import secrets
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from twin.bodies import debian, lambda_runtime, netns
from twin.bodies.runtime_api import ADDRESS, PORT, Event, Notice
from twin.settings import API_ADDRESS, DNS_ADDRESS, Settings

if TYPE_CHECKING:
    from twin.bodies.function import Functions

# Functions run in a network of their own, outside every VPC.
VPC = "lambda"
SUBNET = "subnet-lambda"
CIDR = "169.254.100.0/22"
# AWS's sandbox user.
UID = 993
# AWS allows 10 s; a loaded machine of two cores may need more.
INIT_SECONDS = 30.0
CREDENTIAL_SECONDS = 12 * 3600
LOG_TAIL_BYTES = 4096
# Takes over the environment from a file, since a process list or `podman inspect` would show it to others, and sends
# output to a file, where everything written before a result is there when the result is. Without `site`, the image's own
# packages don't hide that a function's zip lacks one.
BOOTSTRAP = (
    "import json, os; environment = json.load(open('/run/environment.json')); "
    "log = os.open('/run/output', os.O_WRONLY | os.O_APPEND); os.dup2(log, 1); os.dup2(log, 2); "
    "os.execve('/usr/bin/python3', ['python3', '-S', '-m', 'awslambdaric', environment['_HANDLER']], environment)"
)


@dataclass(frozen=True)
class Function:
    """One version of a function with one configuration: what an execution environment is made for."""

    name: str
    version: str
    arn: str
    handler: str
    role: str
    memory: int
    timeout: int
    code_sha256: str
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What an invocation came to: a payload, and if it is an error one, `error` as X-Amz-Function-Error has it."""

    request_id: str
    payload: bytes
    error: str | None
    log: str

    def log_tail(self) -> str:
        """The last 4 KB of the log, as X-Amz-Log-Result has them."""
        return base64.b64encode(self.log.encode()[-LOG_TAIL_BYTES:]).decode()


class ExecutionEnvironment:
    """One container of one function. Made when first invoked."""

    def __init__(self, functions: Functions, function: Function, address: str) -> None:
        self.functions = functions
        self.function = function
        self.address = address
        self.name = f"{functions.podman.settings.name}-{function.name[:30]}-{secrets.token_hex(5)}"
        self.interface = f"lambda-{secrets.token_hex(5)}"
        self.folder = self.folder_of(functions.podman.settings, self.name)
        self.channel = functions.api.open(address)
        self.stream = f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{secrets.token_hex(16)}"
        self.busy = True
        self.created = self.used = time.monotonic()
        self._pid = 0
        self._read = 0

    @staticmethod
    def folder_of(settings: Settings, name: str) -> Path:
        return settings.state / "volumes" / "environments" / name

    @classmethod
    def left_behind(cls, settings: Settings) -> list[str]:
        """Names of the environments whose folders are there, whichever process made them."""
        folder = cls.folder_of(settings, "")
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    @staticmethod
    def interfaces_left_behind(settings: Settings) -> list[str]:
        """The environments' interfaces that are there, by their namespaces' names, whichever process made them."""
        prefix = f"{settings.name}."
        return [name.removeprefix(prefix) for name in netns.listing() if name.startswith(f"{prefix}lambda-")]

    def invoke(self, payload: bytes, request_id: str) -> tuple[Outcome, bool]:
        """The outcome, and whether the environment can take another invocation."""
        started = time.monotonic()
        lines = [f"START RequestId: {request_id} Version: {self.function.version}"]
        init = ""
        if not self._pid:
            self._start()
            notice = self._await({"ready", "init_error", "exited"}, INIT_SECONDS)
            init = f"\tInit Duration: {1000 * (time.monotonic() - started):.2f} ms"
        else:
            notice = Notice("ready")
        started = time.monotonic()
        if notice is not None and notice.kind == "ready":
            deadline = int(1000 * (time.time() + self.function.timeout))
            trace = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"
            self.channel.events.put(Event(request_id, payload, deadline, self.function.arn, trace))
            notice = self._await({"response", "error", "oversize", "exited"}, self.function.timeout, request_id)
        duration = 1000 * (time.monotonic() - started)
        body, error, usable = self._judge(notice, request_id)
        lines += self._output()
        if notice is None:
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
            lines.append(f"{now} {request_id} Task timed out after {self.function.timeout:.2f} seconds")
        lines.append(f"END RequestId: {request_id}")
        lines.append(
            f"REPORT RequestId: {request_id}\tDuration: {duration:.2f} ms\tBilled Duration: {int(duration) + 1} ms\t"
            f"Memory Size: {self.function.memory} MB\tMax Memory Used: {self._peak_memory()} MB{init}"
        )
        self.functions.put_logs(self.function.log_group, self.stream, lines)
        self.used = time.monotonic()
        return Outcome(request_id, body, error, "\n".join(lines) + "\n"), usable

    def end(self) -> None:
        """Remove the container and all that was made for it."""
        self.functions.deaths.forget(self.name)
        self.functions.api.close(self.address)
        self.functions.podman.remove(self.name)
        self.functions.network.detach(self.interface)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _judge(self, notice: Notice | None, request_id: str) -> tuple[bytes, str | None, bool]:
        """Payload, error and whether the environment is still good."""
        prefix = f"RequestId: {request_id} Error: "
        if notice is None:
            message = f"{prefix}Task timed out after {self.function.timeout:.2f} seconds"
            return _error_body("Sandbox.Timedout", message), "Unhandled", False
        if notice.kind == "response":
            return notice.body, None, True
        if notice.kind == "error":
            return notice.body, "Unhandled", True
        if notice.kind in ("init_error", "oversize"):  # the runtime ends itself
            return notice.body, "Unhandled", False
        return _error_body("Runtime.ExitError", f"{prefix}Runtime exited without providing a reason"), "Unhandled", False

    def _await(self, kinds: set[str], seconds: float, request_id: str = "") -> Notice | None:
        """The next notice of these kinds, or None when time is up."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                notice = self.channel.notices.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if notice.kind in kinds and notice.request_id in ("", request_id):
                return notice

    def _start(self) -> None:
        function, podman = self.function, self.functions.podman
        self.folder.mkdir(parents=True)
        self._file("environment.json", json.dumps(self._variables()))
        self._file("output", "")
        namespace = self.functions.network.attach(self.interface, VPC, SUBNET, CIDR, self.address)
        options = (
            f"--user={UID}:{UID}",
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            f"--memory={max(function.memory, 128)}m",
            "--workdir=/var/task",
            f"--dns={DNS_ADDRESS}",
            f"--volume={self.functions.code(function)}:/var/task:ro",
            f"--volume={lambda_runtime.folder(podman)}:/var/runtime:ro",
            f"--volume={self.folder / 'environment.json'}:/run/environment.json:ro",
            f"--volume={self.folder / 'output'}:/run/output:rw",
        )
        command = ("/usr/bin/python3", "-I", "-S", "-c", BOOTSTRAP)
        self._pid = podman.start(self.name, debian.IMAGE, *command, netns=namespace, options=options)
        self.functions.deaths.watch(self.name, self._pid)

    def _variables(self) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime"""
        function = self.function
        key, secret, token = self.functions.credentials(function.role, function.name, CREDENTIAL_SECONDS)
        given = dict(function.variables)
        return {
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
            # AWS's own clients look up the region's endpoint by name; here it is told to them.
            "AWS_ENDPOINT_URL": f"http://{API_ADDRESS}",
            **given,
            "PYTHONPATH": ":".join(filter(None, (given.get("PYTHONPATH"), "/var/runtime"))),
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{lambda_runtime.RUNTIME}",
            "AWS_LAMBDA_RUNTIME_API": f"{ADDRESS}:{PORT}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.stream,
            "AWS_REGION": self.functions.region,
            "AWS_DEFAULT_REGION": self.functions.region,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
        }

    def _file(self, name: str, content: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(content)
        os.chown(path, UID, UID)

    def _output(self) -> list[str]:
        """What the function wrote since the last call, in lines; an error's own line breaks are carriage returns."""
        try:
            with (self.folder / "output").open("rb") as output:
                output.seek(self._read)
                data = output.read()
        except FileNotFoundError:
            return []
        self._read += len(data)
        return [line.replace("\r", "\n") for line in data.decode(errors="replace").split("\n") if line]

    def _peak_memory(self) -> int:
        try:
            status = Path(f"/proc/{self._pid}/status").read_text()
        except OSError:
            return 0
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(sizes[0]) // 1024 if sizes else 0


def _error_body(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
