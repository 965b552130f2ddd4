"""Signature Version 4, recomputed as AWS does: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, Any
from urllib.parse import quote, unquote, unquote_to_bytes

from twin.access.failures import Failure, Kind

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
# Requests may be this much older or younger than the region's clock; presigned URLs live for their own X-Amz-Expires.
SKEW, S3_SKEW = timedelta(minutes=5), timedelta(minutes=15)
MAX_EXPIRES = 7 * 24 * 3600
_FIELD = re.compile(r"(\w+)=([^,\s]+)")


@dataclass(frozen=True)
class Signature:
    """What a request says about who signed it, and how."""

    access_key: str
    day: str
    region: str
    service: str
    headers: tuple[str, ...]
    value: str
    time: datetime
    token: str | None
    # Seconds that a presigned URL lives; None for a signature in the header.
    expires: int | None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


def query_pairs(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """The query string's names and values as sent, still encoded."""
    pairs = (part.partition("=") for part in environ.get("QUERY_STRING", "").split("&") if part)
    return [(name, value) for name, _, value in pairs]


def read(environ: dict[str, Any]) -> Signature | None:
    """The signature in the header or the query, or None for an anonymous request.

    Raises Failure for one that is incomplete or of another kind (SigV2, SigV4A).
    """
    header = environ.get("HTTP_AUTHORIZATION", "")
    query = {unquote(name): unquote(value) for name, value in query_pairs(environ)}
    if header and "X-Amz-Signature" in query:
        raise Failure(Kind.INCOMPLETE_SIGNATURE, "Only one auth mechanism allowed: the header or the query string")
    if header:
        algorithm, _, rest = header.partition(" ")
        if algorithm != ALGORITHM:
            raise Failure(Kind.UNSUPPORTED_MECHANISM, algorithm)
        fields = dict(_FIELD.findall(rest))
        missing = [name for name in ("Credential", "SignedHeaders", "Signature") if name not in fields]
        if missing:
            words = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
            raise Failure(Kind.INCOMPLETE_SIGNATURE, words)
        time = environ.get("HTTP_X_AMZ_DATE") or _from_http_date(environ.get("HTTP_DATE", ""))
        token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
        return _signature(fields["Credential"], fields["SignedHeaders"], fields["Signature"], time, token, None)
    if "X-Amz-Algorithm" in query or "X-Amz-Signature" in query:
        if query.get("X-Amz-Algorithm") != ALGORITHM:
            raise Failure(Kind.UNSUPPORTED_MECHANISM, query.get("X-Amz-Algorithm", ""))
        names = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date")
        missing = [name for name in names if not query.get(name)]
        if missing:
            raise Failure(Kind.INCOMPLETE_SIGNATURE, f"Query-string authentication requires {', '.join(missing)}.")
        expires = query.get("X-Amz-Expires", "")
        if expires and not (expires.isdigit() and 1 <= int(expires) <= MAX_EXPIRES):
            raise Failure(Kind.INCOMPLETE_SIGNATURE, "X-Amz-Expires must be between 1 and 604800 seconds")
        seconds = int(expires) if expires else None
        credential, headers, value, time = (query[name] for name in names)
        return _signature(credential, headers, value, time, query.get("X-Amz-Security-Token"), seconds)
    if {"AWSAccessKeyId", "Signature"} <= query.keys():
        raise Failure(Kind.UNSUPPORTED_MECHANISM, "AWS Signature Version 2")
    return None


def _signature(credential: str, headers: str, value: str, time: str, token: str | None, expires: int | None) -> Signature:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise Failure(Kind.INCOMPLETE_SIGNATURE, f"Credential must have exactly 5 slash-delimited elements, got '{credential}'")
    key, day, region, service, _ = parts
    try:
        moment = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        words = f"Date must be in ISO-8601 'basic format'. Got '{time}'."
        raise Failure(Kind.INCOMPLETE_SIGNATURE, words) from None
    if moment.strftime("%Y%m%d") != day:
        words = f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}'"
        raise Failure(Kind.BAD_SIGNATURE, words)
    signed = tuple(headers.lower().split(";"))
    if "host" not in signed:
        raise Failure(Kind.INCOMPLETE_SIGNATURE, "'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return Signature(key, day, region, service, signed, value, moment, token, expires)


def _from_http_date(value: str) -> str:
    try:
        return datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        raise Failure(
            Kind.INCOMPLETE_SIGNATURE,
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        ) from None


def check_time(signature: Signature, now: datetime | None = None) -> None:
    """Raises Failure for a request outside the clock's tolerance, or a presigned URL past its end."""
    now = now or datetime.now(UTC)
    allowed = S3_SKEW if signature.service == "s3" else SKEW
    if signature.expires is not None:
        if now > signature.time + timedelta(seconds=signature.expires):
            raise Failure(Kind.EXPIRED_URL)
        if signature.time > now + allowed:
            raise Failure(Kind.CLOCK_SKEW, _skew_words(signature, now, allowed))
    elif abs(now - signature.time) > allowed:
        raise Failure(Kind.CLOCK_SKEW, _skew_words(signature, now, allowed))


def _skew_words(signature: Signature, now: datetime, allowed: timedelta) -> str:
    form = "%Y%m%dT%H%M%SZ"
    minutes = int(allowed.total_seconds() // 60)
    sent, today = f"{signature.time:{form}}", f"{now:{form}}"
    if signature.time < now:
        return f"Signature expired: {sent} is now earlier than {now - allowed:{form}} ({today} - {minutes} min.)"
    return f"Signature not yet current: {sent} is still later than {now + allowed:{form}} ({today} + {minutes} min.)"


def check(signature: Signature, secret: str, environ: dict[str, Any], body: IO[bytes], body_hash: str) -> None:
    """Recompute the signature from the request as received; raises Failure when it is another, or the payload is."""
    payload = _payload(signature, environ, body_hash)
    canonical = canonical_request(signature, environ, payload)
    time = signature.time.strftime("%Y%m%dT%H%M%SZ")
    key = signing_key(secret, signature.day, signature.region, signature.service)
    text = f"{ALGORITHM}\n{time}\n{signature.scope}\n{hashlib.sha256(canonical).hexdigest()}"
    if not hmac.compare_digest(_sign(key, text), signature.value):
        raise Failure(Kind.BAD_SIGNATURE)
    if payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        _check_chunks(signature, key, time, body)
    elif len(payload) == 64 and payload != body_hash:
        raise Failure(Kind.PAYLOAD_MISMATCH)


def _payload(signature: Signature, environ: dict[str, Any], body_hash: str) -> str:
    stated = environ.get("HTTP_X_AMZ_CONTENT_SHA256")
    if signature.service == "s3":
        if signature.expires is not None or stated is None:
            return str(stated or UNSIGNED)
        if stated != UNSIGNED and not stated.startswith("STREAMING-") and not re.fullmatch(r"[0-9a-f]{64}", stated):
            words = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value."
            raise Failure(Kind.OWN, words, "InvalidArgument")
        return str(stated)
    # Other services sign what was sent, whatever the header says, unless it was signed as unsigned.
    return UNSIGNED if stated == UNSIGNED else body_hash


def canonical_request(signature: Signature, environ: dict[str, Any], payload: str) -> bytes:
    raw = str(environ.get("RAW_URI") or quote(environ.get("PATH_INFO", "/")))
    path = re.sub(r"^https?://[^/]*", "", raw).partition("?")[0] or "/"
    if signature.service != "s3":
        path = quote(_normalized(path), safe="/~")
    query = sorted(
        (quote(unquote_to_bytes(name), safe="-_.~"), quote(unquote_to_bytes(value), safe="-_.~"))
        for name, value in query_pairs(environ)
        if unquote(name) != "X-Amz-Signature"
    )
    lines = [f"{name}:{' '.join(_header(environ, name).split())}" for name in signature.headers]
    parts = [
        environ["REQUEST_METHOD"],
        path,
        "&".join(f"{name}={value}" for name, value in query),
        *lines,
        "",
        ";".join(signature.headers),
        payload,
    ]
    # WSGI carries a header's bytes as Latin-1.
    return "\n".join(parts).encode("latin-1", "replace")


def _normalized(path: str) -> str:
    """Dot segments and doubled slashes removed (RFC 3986, 6.2.2.3), as every service but S3 does."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and kept:
            kept.pop()
        elif part not in ("", ".", ".."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    return str(environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", ""))


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@functools.lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _check_chunks(signature: Signature, key: bytes, time: str, body: IO[bytes]) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html"""
    body.seek(0)
    previous = signature.value
    while True:
        size, _, stated = body.readline(256).decode("latin-1").strip().partition(";chunk-signature=")
        try:
            data = body.read(int(size, 16))
        except ValueError:
            raise Failure(Kind.OWN, "The request body is not made of signed chunks.", "IncompleteBody") from None
        text = f"{ALGORITHM}-PAYLOAD\n{time}\n{signature.scope}\n{previous}\n{EMPTY}\n{hashlib.sha256(data).hexdigest()}"
        previous = _sign(key, text)
        if not hmac.compare_digest(previous, stated):
            raise Failure(Kind.BAD_SIGNATURE)
        if not data:
            break
        body.readline(8)
    body.seek(0)
