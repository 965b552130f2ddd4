"""Small pictures, made byte by byte."""

from __future__ import annotations

import base64
import os
import struct
import zlib


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(extra: int = 0) -> bytes:
    """A white pixel, and so many bytes of ancillary chunks with noise in them."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    noise = b""
    while extra > 0:
        size = min(extra, 8192 + 12)
        noise += chunk(b"noIs", os.urandom(max(0, size - 12)))
        extra -= size
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + noise + chunk(b"IDAT", zlib.compress(b"\0\xff")) + chunk(b"IEND", b"")


# One grey pixel in three scans' worth of markers; the data holds a stuffed FF and a restart marker.
_TINY = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////////"
    "wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)


def jpeg() -> bytes:
    """A pixel of a progressive JPEG, with stuffed data, a restart and fill bytes in its scan."""
    return _TINY + b"\xff\x00\x12\xff\xd0\x34\xff\xff\xd9"
