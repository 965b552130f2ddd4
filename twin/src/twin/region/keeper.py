"""Keeps the region's records on disk, so that a twin that was killed goes on where it was.

Three kinds of changes, three guarantees:
- what a request with `Change.REPEATABLE` did is in the journal before it is answered;
- what any other request did is in a snapshot before it is answered;
- what a control loop did is in a snapshot a second later, or a little more when records are many: loops compare records
  with bodies, and do again what was lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import moto
from moto.moto_api._internal import mock_random

import twin
from twin.region import changes, journal, snapshot
from twin.region.changes import Change
from twin.region.region import Region

log = logging.getLogger(__name__)

FORMAT = 1
# Seconds from a loop's change to its snapshot, and between looks for changes that nobody told of.
PERIOD, IDLE_PERIOD = 1.0, 5.0
# Rest after a snapshot, in multiples of what it took: 5 % of the time at most, or 25 % while requests wait for it.
REST, HURRIED_REST = 19, 3
# A request is answered after this many seconds even if no snapshot could be written; the log says why.
PATIENCE = 30.0

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Keeper:
    """The records of `region` in `folder`: a snapshot, its large contents, and the journal of what came after it."""

    def __init__(self, region: Region, folder: Path) -> None:
        self.region = region
        self.folder = folder
        self._file = folder / "snapshot"
        # Of the modules as they were loaded, whatever becomes of their files: digested once, not with every snapshot.
        self._header = _header(region)
        self._blobs = snapshot.Blobs(folder / "contents")
        self._journal = journal.Journal(folder)
        self._number = 0
        # Changes are counted; those up to `_saved` are in a snapshot, or no snapshot could be made of them.
        self._state = threading.Condition()
        self._changes = self._saved = self._waiting = 0
        self._cost = 0.0
        self._failure = ""
        self._digest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="Keeper", daemon=True)

    # A start

    def restore(self) -> bool:
        """Put the records of a killed twin into the region; false when there are none to be used, which the log explains.

        Raises OSError when they should be of use and are not: then the region is half restored, and of no use either.
        """
        try:
            with self._file.open("rb") as file:
                header = json.loads(file.readline())
                data = file.read()
        except FileNotFoundError:
            return False
        except ValueError:
            log.warning("the records of the twin before this one can't be read: starting anew")
            return False
        for name, value in self._header.items():
            if header.get(name) != value:
                log.warning("the records are of %s %r, this is %r: starting anew", name, header.get(name), value)
                return False
        self._number = header["number"]
        try:
            with self.region.lock:
                self.region.set_state(snapshot.load(data, self._blobs))
        except Exception as error:
            log.exception("the records can't be restored")
            message = f"the records of the twin before this one can't be restored ({error}): all is removed; start again"
            raise OSError(message) from error
        return True

    def repeat(self, app: WsgiApp) -> None:
        """Carry out again what came after the restored snapshot."""
        count = failures = 0
        for entry in self._journal.entries(self._number):
            if entry.seed is not None:
                mock_random.seed(entry.seed)
            count += 1
            failures += not _carry_out_again(app, entry)
        mock_random.seed()
        if count:
            log.info("%d requests after the last snapshot were repeated, %d of them in vain", count, failures)

    def start(self) -> None:
        """Keep the records from now on; the first snapshot is on disk when this returns."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._blobs.folder.mkdir(mode=0o700, exist_ok=True)
        self._save()
        self._thread.start()
        self.region.changed, self.region.commit = self.changed, self.commit

    # What may change records

    def carry_out(self, app: WsgiApp, environ: dict[str, Any], start_response: Any, body: bytes, lock: Any) -> list[bytes]:
        """Carry out a request by `app`, under `lock`, and return its answer once what it changed is safe."""
        change = changes.of(environ, body)
        answers: list[str] = []

        def started(status: str, headers: Any, *rest: Any) -> Any:
            answers.append(status)
            return start_response(status, headers, *rest)

        with lock as holds:
            seed = journal.seed() if change is Change.REPEATABLE and holds else None
            entry = journal.Entry.of(environ, body, seed) if change is Change.REPEATABLE else None
            answer = list(app(environ, started))
            refused = not answers or answers[0] >= "4"
            if change is Change.NONE or refused or (entry and _nothing_received(entry, answer)):
                return answer
            if entry is not None:
                with self.region.lock:
                    self._journal.append(entry)
            self.changed()
        if entry is None:
            self.commit()
        return answer

    def changed(self) -> None:
        """Something may have changed: let a snapshot be taken before long."""
        with self._state:
            self._changes += 1
            self._state.notify_all()

    def commit(self) -> None:
        """Wait until every change so far is in a snapshot. Must not be called with the region's lock held."""
        until = time.monotonic() + PATIENCE
        with self._state:
            wanted = self._changes
            self._waiting += 1
            self._state.notify_all()
            try:
                while self._saved < wanted and self._thread.is_alive() and not self._ended:
                    if not self._state.wait(until - time.monotonic()):
                        break
            finally:
                self._waiting -= 1

    # Snapshots

    def _run(self) -> None:
        rested = time.monotonic()
        while True:
            with self._state:
                while not self._ended and (wait := rested + self._rest() - time.monotonic()) > 0:
                    self._state.wait(wait)
                if self._ended:
                    return
            self._save()
            rested = time.monotonic()

    def _rest(self) -> float:
        if self._changes == self._saved:
            return max(IDLE_PERIOD, REST * self._cost)
        return HURRIED_REST * self._cost if self._waiting else max(PERIOD, REST * self._cost)

    def _save(self) -> None:
        """Take a snapshot. What is in it is safe when it has its final name; a twin killed before has the one before."""
        failure = ""
        with self.region.lock:
            with self._state:
                included = self._changes
            began = time.monotonic()
            try:
                data = snapshot.dump(self.region.state(), self._blobs)
                digest = hashlib.blake2b(data).digest()
                if digest != self._digest:
                    self._journal.begin(self._number + 1)
            except Exception as error:  # of pickle's, and whatever a record's own methods raise
                failure = f"{type(error).__name__}: {error}"
            self._cost = time.monotonic() - began
        try:
            if not failure and digest != self._digest:
                self._number += 1
                self._write(data)
                self._digest = digest
        except OSError as error:
            failure = str(error)
        if failure and failure != self._failure:
            log.error("the records can't be kept: %s. A twin killed now loses what changed since they could", failure)
        self._failure = failure
        with self._state:
            self._saved = included
            self._state.notify_all()

    def _write(self, data: bytes) -> None:
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(json.dumps(self._header | {"number": self._number}).encode() + b"\n" + data)
        new.replace(self._file)
        self._journal.discard(self._number)
        self._blobs.keep_used()

    # An end

    def end(self) -> None:
        """Stop keeping records; nobody waits any more."""
        with self._state:
            self._ended = True
            self._state.notify_all()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        self._journal.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _carry_out_again(app: WsgiApp, entry: journal.Entry) -> bool:
    """Whether the request succeeded again."""
    answers: list[str] = []
    try:
        for _ in app(entry.request(), lambda status, *_: answers.append(status)):
            pass
    except Exception:
        log.exception("a request of the journal failed")
    return bool(answers) and answers[0] < "4"


def _nothing_received(entry: journal.Entry, answer: list[bytes]) -> bool:
    """An empty receive changes nothing; repeated it would wait as long as it did."""
    receive = "ReceiveMessage" in entry.environ.get("HTTP_X_AMZ_TARGET", "") or b"Action=ReceiveMessage" in entry.body
    return receive and not any(b"ReceiptHandle" in part for part in answer)


def _header(region: Region) -> dict[str, Any]:
    """What must be the same for the records to be of use."""
    settings = region.settings
    return {
        "format": FORMAT,
        "moto": moto.__version__,
        "python": platform.python_version(),
        "twin": _source(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "region": [settings.name, settings.slot, settings.region, settings.account_id],
    }


def _source() -> str:
    """Digest of the twin's own modules: records are instances of their classes."""
    digest = hashlib.sha256()
    folder = Path(os.path.dirname(twin.__file__))
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
