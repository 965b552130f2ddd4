"""`signup-drain`: sees this instance to its end when Auto Scaling takes it out of service.

Two units run it, and systemd does what lies between (roles/signup):

1. `signup-drain watch` waits until the group terminates this instance and the load balancer has drained it, then makes a file.
2. A path unit sees the file and starts the unit of `signup-drain leave`, which conflicts with the service and the outbox
   publisher: systemd sends them SIGTERM and waits for their end before it runs the command, which completes the lifecycle
   action. So no process here may stop a unit, and none needs to.

Whatever fails here, the hook's timeout lets the instance go, and its shutdown ends the service the same way.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from signup.clients.metadata import Metadata, MetadataUnavailable
from signup.drain.connections import open_connections
from signup.logs import configure
from signup.settings import DrainSettings, load_drain_settings, load_or_exit

if TYPE_CHECKING:
    from signup.clients.lifecycle import LifecycleAction

TERMINATED = "Terminated"
POLL_SECONDS = 2.0
STEP_SECONDS = 0.5
# Beyond draining: how long the hook's wait may take to begin before the service ends all the same.
PATIENCE_SECONDS = 10.0
COMPLETE_SECONDS = 60.0

log = logging.getLogger(__name__)


class Waits(Protocol):
    """A lifecycle action as this module uses it."""

    def heartbeat(self) -> bool: ...

    def complete(self) -> bool: ...


def await_termination(metadata: Metadata, stop: threading.Event, poll: float = POLL_SECONDS) -> bool:
    """Wait until the group terminates this instance; False when `stop` was set before."""
    seen: str | None = "unknown"
    trouble = ""
    while not stop.is_set():
        try:
            state = metadata.target_lifecycle_state()
        except MetadataUnavailable as error:
            if str(error) != trouble:
                trouble = str(error)
                log.warning("metadata service is unavailable", extra={"fields": {"reason": trouble}})
        else:
            trouble = ""
            if state != seen:
                seen = state
                log.info("target lifecycle state", extra={"fields": {"state": state}})
            if state == TERMINATED:
                return True
        stop.wait(poll)
    return False


def await_drained(
    action: Callable[[], Waits],
    settings: DrainSettings,
    stop: threading.Event,
    connections: Callable[[int], int] = open_connections,
    step: float = STEP_SECONDS,
) -> bool:
    """Wait until the load balancer sends nothing here any more; False when `stop` was set before.

    Auto Scaling deregisters an instance and lets it drain before its hook waits (how-lifecycle-hooks-work), so that a
    hook that takes heartbeats tells of a drained instance. Should it ever wait sooner, the service still gets what
    draining takes, as long as there are connections. An API that does not answer, or a hook that is gone, only delays.
    """
    began = time.monotonic()
    waiting = False
    trouble = ""
    while not stop.is_set():
        elapsed = time.monotonic() - began
        if not waiting:
            try:
                waiting = action().heartbeat()
            except Exception as error:  # whatever it is, the service must end in time
                if str(error) != trouble:
                    trouble = str(error)
                    log.warning("no word from Auto Scaling", extra={"fields": {"reason": trouble}})
            if waiting:
                log.info("lifecycle hook waits", extra={"fields": {"seconds": round(elapsed, 1)}})
        # A drained target's idle connections stay open until the load balancer drops them: they count only until then.
        if waiting and (elapsed >= settings.drain_seconds or not connections(settings.port)):
            with suppress(Exception):  # the whole timeout for the service's end; what is left of it does, too
                action().heartbeat()
            return True
        if elapsed >= settings.drain_seconds + PATIENCE_SECONDS:
            log.warning("the lifecycle hook does not wait: going on without it")
            return True
        stop.wait(step)
    return False


def complete(action: Callable[[], Waits], stop: threading.Event, seconds: float = COMPLETE_SECONDS, step: float = 1.0) -> bool:
    """Complete the lifecycle action, trying for `seconds`; False when that did not work out."""
    until = time.monotonic() + seconds
    trouble = ""
    # Before, since success may end this machine sooner than its last line leaves it.
    log.info("completing the lifecycle action")
    while not stop.is_set() and time.monotonic() < until:
        try:
            if action().complete():
                log.info("lifecycle action completed")
                return True
            reason = "the hook does not wait for this instance"
        except Exception as error:  # as above: the hook's timeout is the worst that can follow
            reason = str(error)
        if reason != trouble:
            trouble = reason
            log.warning("lifecycle action is not completed yet", extra={"fields": {"reason": reason}})
        stop.wait(step)
    return False


def maker(settings: DrainSettings, metadata: Metadata) -> Callable[[], LifecycleAction]:
    """Makes the action's client at its first use, and keeps it: until an instance leaves, nothing here needs boto3."""
    made: list[LifecycleAction] = []

    def make() -> LifecycleAction:
        if not made:
            from signup.clients.lifecycle import LifecycleAction

            made.append(LifecycleAction(settings.group or "", settings.hook, metadata.instance_id(), settings.region))
        return made[0]

    return make


def watch(settings: DrainSettings, mark: Path, stop: threading.Event) -> None:
    """See to it that `mark` is made once the service may end."""
    metadata = Metadata()
    if await_termination(metadata, stop):
        log.info("leaving: waiting for the load balancer to drain", extra={"fields": {"seconds": settings.drain_seconds}})
        if await_drained(maker(settings, metadata), settings, stop):
            mark.touch()
            log.info("drained: the service may end")


def main() -> None:
    """Console script. Ends with 0 when there is nothing left to do, 1 when an action stays incomplete, 78 on wrong settings."""
    parser = argparse.ArgumentParser(prog="signup-drain", description="See this instance to its end.")
    commands = parser.add_subparsers(dest="command", required=True)
    watching = commands.add_parser("watch", help="wait until the group takes this instance out of service")
    watching.add_argument("mark", type=Path, help="file to make then")
    commands.add_parser("leave", help="complete the lifecycle action")
    arguments = parser.parse_args()
    settings = load_or_exit(load_drain_settings)
    configure(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if settings.group is None:
        log.info("no Auto Scaling group: nothing to do")
    elif arguments.command == "watch":
        watch(settings, arguments.mark, stop)
    elif not complete(maker(settings, Metadata()), stop):
        raise SystemExit(1)
