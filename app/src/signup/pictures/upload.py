"""Taking a picture in from a request's body, without ever holding it in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from signup.pictures.formats import CUT, SIGNATURE_BYTES, NotAPicture, find_end, recognize

MAX_PICTURE = 5 * 1024 * 1024
PIECE = 64 * 1024


class PictureTooLarge(Exception):
    """The body is longer than MAX_PICTURE."""


@dataclass(frozen=True)
class Upload:
    """A whole picture in a file without a name."""

    file: IO[bytes]
    size: int
    content_type: str
    extension: str


@contextmanager
def received(body: IO[bytes], length: int | None) -> Iterator[Upload]:
    """The picture that comes as the body; `length` is what its sender announced. Raises NotAPicture and PictureTooLarge.

    It goes through a file because S3 has to be told its length and checksum first, and may have to be told twice; so a slow
    sender keeps no connection to S3 waiting, and what turns out not to be a picture has never been there.
    """
    if length is not None and length > MAX_PICTURE:
        raise PictureTooLarge
    with TemporaryFile() as file:
        beginning, size = b"", 0
        while piece := body.read(PIECE):
            if size < SIGNATURE_BYTES:
                beginning += piece[:SIGNATURE_BYTES]
                if len(beginning) >= SIGNATURE_BYTES:
                    recognize(beginning)  # now, not after five megabytes
            size += len(piece)
            if size > MAX_PICTURE:
                raise PictureTooLarge
            file.write(piece)
        if length is not None and size < length:
            raise NotAPicture(CUT)
        found = recognize(beginning)
        file.flush()
        end = find_end(file, found)
        file.truncate(end)
        file.seek(0)
        yield Upload(file, end, found.content_type, found.extension)
