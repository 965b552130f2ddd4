"""Requests that were carried out since the last snapshot, in their order, so that they can be repeated after a crash.

Each is written before it is answered. The kernel keeps what was written when the process is killed, so nothing is forced to
the disk: when the host goes down, the region's bodies go with it, and records without them are of no use.
"""

from __future__ import annotations

import io
import os
import pickle
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moto.moto_api._internal import mock_random


@dataclass(frozen=True)
class Entry:
    """A request, and the seed that gives its records the same ids again (None: it was carried out without one)."""

    environ: dict[str, Any]
    body: bytes
    seed: int | None

    @classmethod
    def of(cls, environ: dict[str, Any], body: bytes, seed: int | None) -> Entry:
        kept = {
            name: value
            for name, value in environ.items()
            if not name.startswith(("wsgi.", "werkzeug.")) and isinstance(value, str | int | bool | dict | tuple | None)
        }
        return cls(kept, body, seed)

    def request(self) -> dict[str, Any]:
        """The WSGI environment with which to carry it out again."""
        return {
            **self.environ,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }


def seed() -> int:
    """Seed moto's randomness with a number that nobody can guess: ids and handles of what follows come from it."""
    number = secrets.randbits(128)
    mock_random.seed(number)
    return number


class Journal:
    """One file for each snapshot: journal N has what came after snapshot N. Not safe for concurrent use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: io.FileIO | None = None

    def begin(self, number: int) -> None:
        """Entries from now on come after snapshot `number`."""
        self.close()
        file = self.folder / f"journal-{number}"
        file.touch(mode=0o600)
        self._file = open(file, "ab", buffering=0)  # noqa: SIM115 (closed by the next)

    def append(self, entry: Entry) -> None:
        if self._file is None:
            return
        content = memoryview(pickle.dumps(entry, protocol=5))
        while content:
            content = content[os.write(self._file.fileno(), content) :]

    def entries(self, number: int) -> Iterator[Entry]:
        """What came after snapshot `number`. The last may have been cut off: nobody got an answer to that one."""
        for file in self._files(number):
            with file.open("rb") as journal:
                while True:
                    try:
                        yield pickle.load(journal)  # noqa: S301 (from a folder that only this user writes)
                    except (EOFError, pickle.UnpicklingError):
                        break

    def discard(self, number: int) -> None:
        """Remove what came before snapshot `number`."""
        keep = self._files(number)
        for file in self.folder.glob("journal-*"):
            if file not in keep:
                file.unlink()

    def _files(self, number: int) -> list[Path]:
        """Journals from `number` on. There is more than one when the process ended while it wrote a snapshot."""
        found = {int(file.name.rpartition("-")[2]): file for file in self.folder.glob("journal-*")}
        return [found[each] for each in sorted(found) if each >= number]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
