"""What a picture is, byte by byte."""

from __future__ import annotations

import io
import random
import struct
from tempfile import TemporaryFile

import pytest
from pixels import chunk, jpeg, png

from signup.pictures.formats import MAX_PARTS, NotAPicture, find_end, recognize
from signup.pictures.upload import MAX_PICTURE, PictureTooLarge, received

PNG, JPEG = png(100), jpeg()


def kept(content: bytes, length: int | None = None) -> tuple[str, bytes]:
    with received(io.BytesIO(content), length) as upload:
        found = upload.file.read()
    assert len(found) == upload.size
    return upload.content_type, found


def test_whole_pictures_are_kept_as_they_are() -> None:
    assert kept(PNG) == ("image/png", PNG)
    assert kept(JPEG, len(JPEG)) == ("image/jpeg", JPEG)
    assert kept(PNG[:-12] + chunk(b"tEXt", b"after the data") + PNG[-12:])[0] == "image/png"


def test_what_follows_the_end_is_left_out() -> None:
    for picture in (PNG, JPEG):
        assert kept(picture + b"<script>alert(1)</script>")[1] == picture
        assert kept(picture + PNG + JPEG)[1] == picture


@pytest.mark.parametrize("picture", [PNG, JPEG], ids=["png", "jpeg"])
def test_no_beginning_of_a_picture_is_one(picture: bytes) -> None:
    for size in range(len(picture)):
        with pytest.raises(NotAPicture):
            kept(picture[:size])
    with pytest.raises(NotAPicture, match="not whole"):
        kept(picture, len(picture) + 1)


@pytest.mark.parametrize("bit", range(8))
def test_a_changed_bit_of_a_png_is_noticed(bit: int) -> None:
    for position in range(len(PNG)):
        with pytest.raises(NotAPicture):
            kept(PNG[:position] + bytes([PNG[position] ^ 1 << bit]) + PNG[position + 1 :])


def test_a_changed_jpeg_is_refused_or_kept_up_to_an_end() -> None:
    """It has no checksum: most changes are to data that only a decoder reads."""
    chance = random.Random(7)  # noqa: S311 - the same changes each time
    refused = 0
    for _ in range(3000):
        changed = bytearray(JPEG)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            kind, found = kept(bytes(changed))
        except NotAPicture:
            refused += 1
            continue
        assert kind == "image/jpeg"
        assert changed.startswith(found)
        assert found.endswith(b"\xff\xd9")
    assert 0 < refused < 3000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a" + b"\0" * 50,
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"{}",
        b"\xff\xfe\0\0",
        PNG[:8] + PNG[33:],  # no header
        PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 1, 8, 0, 0, 0, 0)) + PNG[33:],  # no width
        PNG[:8] + chunk(b"IHDR", b"\0\0\0\1") + PNG[33:],
        PNG[:33] + chunk(b"IHDR", PNG[16:29]) + PNG[33:],  # two headers
        PNG[:33] + chunk(b"IEND", b""),  # no data
        PNG[:8] + struct.pack(">I", 2**32 - 1) + PNG[12:],
        PNG[:33] + chunk(b"a0Bc", b"") * MAX_PARTS + PNG[33:],
        JPEG[:2] + b"\xff\xd9",  # nothing between beginning and end
        JPEG[:2] + JPEG[JPEG.index(b"\xff\xc4") :],  # no frame
        JPEG[:2] + JPEG[2:6].replace(b"\0\x10", b"\0\1") + JPEG[6:],  # a segment shorter than its length's field
        JPEG[:2] + b"\xff\xe0\0\2" * MAX_PARTS + JPEG[2:],
        b"\xff\xd8\xff\xd8" + JPEG[2:],
    ],
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(NotAPicture):
        kept(content)


def test_what_begins_like_nothing_known_is_not_read_to_its_end() -> None:
    body = io.BytesIO(b"G" * MAX_PICTURE)
    with pytest.raises(NotAPicture), received(body, None):
        pass
    assert body.tell() < MAX_PICTURE / 10


def test_five_megabytes_and_no_byte_more() -> None:
    largest = png(MAX_PICTURE - len(png()))
    assert len(largest) == MAX_PICTURE
    assert kept(largest, MAX_PICTURE)[1] == largest
    for length in (None, MAX_PICTURE + 1):
        with pytest.raises(PictureTooLarge), received(io.BytesIO(largest + b"x"), length):
            pass


def test_the_end_is_found_in_a_file_that_has_more() -> None:
    with TemporaryFile() as file:
        file.write(JPEG + b"more")
        file.flush()
        assert find_end(file, recognize(JPEG[:8])) == len(JPEG)
