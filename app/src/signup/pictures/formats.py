"""What a file is by its content: PNG or JPEG, whole from its first byte to its last."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
SIGNATURE_BYTES = len(PNG_SIGNATURE)

MAX_PARTS = 10_000
"""Chunks or segments: ten times those of any encoder, and few enough to look at each."""

CUT = "The picture is not whole: it ends before its end."
BROKEN = "The picture is broken."
UNKNOWN = "This is neither a PNG nor a JPEG picture."

# ITU-T T.81, table B.1: frames of all codings; not DHT (C4), JPG (C8) and DAC (CC), which stand among them.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# In a scan, FF is data before 00, a restart before D0 to D7, and fill before FF.
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class NotAPicture(Exception):
    """The content can't be accepted; the text says why."""


@dataclass(frozen=True)
class Format:
    """A kind of picture: `end` finds where one ends, and raises NotAPicture."""

    content_type: str
    extension: str
    end: Callable[[mmap.mmap], int]


def recognize(beginning: bytes) -> Format:
    """The format that begins so; raises NotAPicture. Give it SIGNATURE_BYTES at least, or all there is."""
    if not beginning:
        raise NotAPicture("Send the picture as the body.")
    for signature, found in ((PNG_SIGNATURE, PNG), (JPEG_SIGNATURE, JPEG)):
        if beginning.startswith(signature):
            return found
        if signature.startswith(beginning):
            raise NotAPicture(CUT)
    raise NotAPicture(UNKNOWN)


def find_end(file: IO[bytes], found: Format) -> int:
    """How many bytes of the file are the picture; what follows is none of it. Raises NotAPicture unless it is whole."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return found.end(content)
        except (struct.error, IndexError):
            raise NotAPicture(CUT) from None


def _png_end(content: mmap.mmap) -> int:
    """https://www.w3.org/TR/png-3/#5DataRep: chunks from IHDR to IEND, each with its CRC."""
    position = len(PNG_SIGNATURE)
    kinds: set[bytes] = set()
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise NotAPicture(CUT)
        if zlib.crc32(content[position + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            raise NotAPicture(BROKEN)
        if (kind == b"IHDR") != (not kinds) or (kind == b"IHDR" and not _has_area(content, position + 8, length)):
            raise NotAPicture(BROKEN)
        kinds.add(kind)
        if kind == b"IEND":
            if b"IDAT" not in kinds:
                raise NotAPicture(BROKEN)
            return int(end)
        position = end
    raise NotAPicture(BROKEN)


def _has_area(content: mmap.mmap, position: int, length: int) -> bool:
    return length == 13 and all(struct.unpack_from(">II", content, position))


def _jpeg_end(content: mmap.mmap) -> int:
    """ITU-T T.81, annex B: marker segments from SOI to EOI, with a frame, and scans whose data has no length."""
    position = 2
    seen: set[int] = set()
    for _ in range(MAX_PARTS):
        if content[position] != 0xFF:
            raise NotAPicture(BROKEN)
        while content[position] == 0xFF:
            position += 1
        marker = content[position]
        position += 1
        if marker == END_OF_IMAGE:
            if START_OF_SCAN not in seen:
                raise NotAPicture(BROKEN)
            return position
        (length,) = struct.unpack_from(">H", content, position)
        if marker in WITHOUT_LENGTH or marker == 0 or length < 2 or (marker == START_OF_SCAN and not seen & FRAMES):
            raise NotAPicture(BROKEN)
        seen.add(marker)
        position += length
        if marker == START_OF_SCAN:
            after = AFTER_SCAN.search(content, position)
            if after is None:
                raise NotAPicture(CUT)
            position = after.start()
    raise NotAPicture(BROKEN)


PNG = Format("image/png", "png", _png_end)
JPEG = Format("image/jpeg", "jpg", _jpeg_end)
