"""The S3 bucket of the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from botocore.exceptions import ClientError

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient

PIECE = 64 * 1024
# Without the right to list a bucket, what is not there is not to be seen either.
MISSING = ("NoSuchKey", "AccessDenied")


class PicturesUnavailable(Exception):
    """S3 did not answer or refused, or there is no bucket; the text is AWS's error code."""


class PictureMissing(PicturesUnavailable):
    """There is no object with that key, as far as S3 says."""


@dataclass(frozen=True)
class StoredPicture:
    """An object that is being read; close it."""

    size: int
    body: Any

    def pieces(self) -> Iterator[bytes]:
        """The content, piece by piece."""
        yield from self.body.iter_chunks(PIECE)

    def close(self) -> None:
        """Give the connection back."""
        self.body.close()


class PictureBucket:
    """Objects by key, under the prefix that the instance's role may use."""

    PREFIX = "pictures/"

    def __init__(self, bucket: str | None, region: str) -> None:
        self._bucket = bucket
        # S3's is the largest of all clients, and most workers never need it.
        self._client = LateClient("s3", region, at_once=False)

    def put(self, key: str, file: IO[bytes], size: int, content_type: str) -> None:
        """Store an object; it is there as a whole or not at all. Raises PicturesUnavailable."""
        self._call("put_object", key, Body=file, ContentLength=size, ContentType=content_type)

    def get(self, key: str) -> StoredPicture:
        """Begin to read an object. Raises PicturesUnavailable."""
        answer = self._call("get_object", key)
        return StoredPicture(answer["ContentLength"], answer["Body"])

    def delete(self, key: str) -> None:
        """Delete an object; there may be none. Raises PicturesUnavailable."""
        self._call("delete_object", key)

    def _call(self, operation: str, key: str, **arguments: Any) -> Any:
        if self._bucket is None:
            raise PicturesUnavailable("NoBucket")
        try:
            return getattr(self._client(), operation)(Bucket=self._bucket, Key=key, **arguments)
        except AWS_ERRORS as error:
            code = error_code(error)
            kind = PictureMissing if isinstance(error, ClientError) and code in MISSING else PicturesUnavailable
            raise kind(code) from error
