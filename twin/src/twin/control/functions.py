"""Functions: made ready in the background, invoked at once or from a queue that retries as Lambda's does.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from moto.awslambda.exceptions import ConflictException, UnknownFunctionException
from moto.moto_api._internal import mock_random

from twin.bodies.execution_environment import Function, Outcome
from twin.bodies.function import Functions as Bodies
from twin.bodies.function import InvalidPackage, TooManyRequests
from twin.bodies.podman import PodmanError
from twin.control.destinations import Result, deliver
from twin.control.loop import Loop
from twin.region.awslambda import body_of, concurrency_of
from twin.region.region import Region

log = logging.getLogger(__name__)

# AWS's, in seconds; a twin waits a part of them.
RETRY_DELAYS = (60.0, 120.0)
DEFAULT_RETRIES = 2
# When the function is throttled or can't be started, AWS tries again from 1 s to 5 min apart until the event is too old.
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
DEFAULT_EVENT_AGE = 21600
WORKERS = 8


@dataclass
class QueuedEvent:
    """An event on its way to a function. Times in seconds of the monotonic clock."""

    due: float
    number: int
    name: str
    qualifier: str | None
    payload: bytes = field(repr=False)
    request_id: str
    accepted: float
    attempts: int = 0
    refusals: int = 0
    last: Outcome | None = field(default=None, repr=False)


class Functions(Loop):
    """Lambda's control plane and its queue of asynchronous invocations."""

    period = 0.5

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        settings = region.settings
        self._scale = settings.retry_scale
        self.bodies = Bodies(region.podman, region.network, settings.region, region.assume_role, self._put_logs)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="event")
        self._makers = ThreadPoolExecutor(2, thread_name_prefix="function")
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        # When which of the queued events is due. The events themselves are kept with the region's records until they came to
        # an end: whoever sent one was told that it is taken over.
        self._due: list[tuple[float, int]] = []

    def adopt(self) -> None:
        """Environments of a killed twin have nobody to answer to any more: they go. Events that had not come to an end are
        due again, those that were being worked on too: Lambda delivers at least once."""
        self.bodies.clear()
        with self.region.records():
            for record in self._records():
                self._submit(f"{record.function_arn} {id(record)}", self._prepare, record)
            due = [(event.due, number) for number, event in self._events().items()]
        heapq.heapify(due)
        with self._lock:
            self._due = due

    def _records(self) -> list[Any]:
        """Every version of every function. Call with the region's lock held."""
        return [
            record
            for versions in self.region.backend("lambda")._lambdas._functions.values()
            for record in (versions["latest"], *versions["versions"])
            if record is not None
        ]

    def _events(self) -> dict[int, QueuedEvent]:
        """The queued events by number. Call with the region's lock held."""
        return self.region.kept.setdefault("events", {})  # type: ignore[no-any-return]

    # What the API asks

    def find(self, name: str, qualifier: str | None) -> Any:
        """The function's record; raises moto's UnknownFunctionException, and ConflictException while it is not active."""
        with self.region.records():
            record = self.region.backend("lambda").get_function(name, qualifier)
            if record.state != "Active":
                message = "The operation cannot be performed at this time. The function is currently in the following state: "
                raise ConflictException(message + record.state)
            return record

    def invoke(self, name: str, qualifier: str | None, payload: bytes, request_id: str) -> tuple[Outcome, str]:
        """Run the function and wait for it; returns the outcome and the version that ran."""
        with self.region.records():
            record = self.find(name, qualifier)
            function, concurrency = body_of(record), concurrency_of(record)
        return self._run(function, payload, request_id, concurrency), function.version

    def _run(self, function: Function, payload: bytes, request_id: str, concurrency: int) -> Outcome:
        """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html"""
        began = time.monotonic()
        try:
            outcome = self.bodies.invoke(function, payload, request_id, concurrency)
        except TooManyRequests:
            self._count(function, Throttles=1)
            raise
        self._count(function, Invocations=1, Errors=int(outcome.error is not None))
        elapsed = 1000 * (time.monotonic() - began)
        self.region.metric("AWS/Lambda", "Duration", {"FunctionName": function.name}, elapsed, "Milliseconds")
        return outcome

    def _count(self, function: Function, **counts: int) -> None:
        for name, count in counts.items():
            self.region.metric("AWS/Lambda", name, {"FunctionName": function.name}, count, "Count")

    def enqueue(self, name: str, qualifier: str | None, payload: bytes, request_id: str = "") -> str:
        """Take an event for later; returns its request id. Raises UnknownFunctionException."""
        now = time.monotonic()
        with self.region.records():
            self.region.backend("lambda").get_function(name, qualifier)
            events = self._events()
            number = next(reversed(events), 0) + 1
            event = QueuedEvent(now, number, name, qualifier, payload, request_id or str(mock_random.uuid4()), now)
            events[number] = event
        self._push(event)
        return event.request_id

    # The loop

    def tick(self) -> None:
        with self.region.records():
            records = self._records()
            functions = {body_of(record) for record in records}
        for record in records:
            if record.state == "Pending" or getattr(record, "update_status", "") == "InProgress":
                self._submit(f"{record.function_arn} {id(record)}", self._prepare, record)
        self._submit("tidy", self._tidy, functions)
        for event in self._take():
            self._workers.submit(self._work, event)

    def _submit(self, key: str, action: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            if key in self._busy:
                return
            self._busy.add(key)

        def work() -> None:
            try:
                action(*arguments)
            except Exception:
                log.exception("%s failed", action.__name__.strip("_"))
            finally:
                with self._lock:
                    self._busy.discard(key)

        self._makers.submit(work)

    def _prepare(self, record: Any) -> None:
        with self.region.records():
            function, package = body_of(record), record.code_bytes
        reason = ""
        try:
            self.bodies.prepare(function, package)
        except (InvalidPackage, PodmanError, OSError) as error:
            log.error("%s: %s", function.name, error)
            reason = str(error)
        with self.region.records():
            if body_of(record).code_sha256 != function.code_sha256:
                return  # changed meanwhile; the next round sees to it
            record.state_reason = reason
            if record.state == "Pending":
                record.state = "Failed" if reason else "Active"
            record.update_status = "Failed" if reason else "Successful"

    def _tidy(self, functions: set[Function]) -> None:
        try:
            self.bodies.retire(functions)
            self.bodies.discard(functions)
        except (PodmanError, OSError) as error:
            log.warning("%s", error)

    # The queue

    def _push(self, event: QueuedEvent) -> None:
        with self._lock:
            heapq.heappush(self._due, (event.due, event.number))
        self.wake()

    def _take(self) -> list[QueuedEvent]:
        """The events that are due."""
        numbers = []
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                numbers.append(heapq.heappop(self._due)[1])
        with self.region.records():
            return [self._events()[number] for number in numbers]

    def _work(self, event: QueuedEvent) -> None:
        ended = True
        try:
            ended = self._attempt(event)
        except UnknownFunctionException as error:
            log.error("%s: event %s is dropped: %s", event.name, event.request_id, error.message)
        except Exception:
            log.exception("%s: event %s is dropped", event.name, event.request_id)
        if ended:
            with self.region.records():
                del self._events()[event.number]
        self.region.changed()

    def _attempt(self, event: QueuedEvent) -> bool:
        """Invoke the function with the event, once; returns whether that was the end of it."""
        with self.region.records():
            record = self.region.backend("lambda").get_function(event.name, event.qualifier)
            function, concurrency = body_of(record), concurrency_of(record)
            settings = record.event_invoke_config[0].config if record.event_invoke_config else {}
            dead_letters = (getattr(record, "dead_letter_config", None) or {}).get("TargetArn")
            ready = record.state == "Active"
        age = settings.get("MaximumEventAgeInSeconds", DEFAULT_EVENT_AGE)
        destinations = settings.get("DestinationConfig") or {}

        def finish(condition: str) -> bool:
            result = Result(
                event.request_id, event.payload, condition, event.attempts, function.arn, function.version, event.last
            )
            side = "OnSuccess" if condition == "Success" else "OnFailure"
            target = (destinations.get(side) or {}).get("Destination")
            if target and not deliver(self.region, function.role, target, result.record()):
                self._count(function, DestinationDeliveryFailures=1)
            if condition != "Success":
                log.warning("%s: event %s failed: %s", function.name, event.request_id, condition)
                self._count(function, AsyncEventsDropped=1)
                if dead_letters and not deliver(self.region, function.role, dead_letters, *result.dead_letter()):
                    self._count(function, DeadLetterErrors=1)
            return True

        if time.monotonic() - event.accepted > age:
            return finish("EventAgeExceeded")
        waited = 1000 * (time.monotonic() - event.accepted)
        self.region.metric("AWS/Lambda", "AsyncEventAge", {"FunctionName": function.name}, waited, "Milliseconds")
        try:
            if not ready:
                raise TooManyRequests(function.arn)
            event.last = self._run(function, event.payload, event.request_id, concurrency)
        except (TooManyRequests, PodmanError, OSError) as error:
            if not isinstance(error, TooManyRequests):
                log.error("%s: %s", function.name, error)
            self._again(event, min(LAST_BACKOFF, FIRST_BACKOFF * 2**event.refusals) * (self._scale if ready else 1))
            event.refusals += 1
            return False
        event.attempts += 1
        if event.last.error is None:
            return finish("Success")
        if event.attempts > settings.get("MaximumRetryAttempts", DEFAULT_RETRIES):
            return finish("RetriesExhausted")
        self._again(event, RETRY_DELAYS[event.attempts - 1] * self._scale)
        return False

    def _again(self, event: QueuedEvent, seconds: float) -> None:
        event.due = time.monotonic() + seconds
        self._push(event)

    def _put_logs(self, group: str, stream: str, lines: list[str]) -> None:
        now = int(time.time() * 1000)
        with self.region.records():
            logs = self.region.backend("logs")
            logs.ensure_log_group(group)
            if stream not in logs.groups[group].streams:
                logs.create_log_stream(group, stream)
            logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])

    def end(self) -> None:
        super().end()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._makers.shutdown(wait=False, cancel_futures=True)
        self.bodies.close()
