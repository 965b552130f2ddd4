"""Refusals in each protocol's own form, with AWS's codes, statuses and words.

https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html (query), and of each service its page of common errors.
"""

from __future__ import annotations

import json
import uuid
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from twin.access.failures import Failure, Kind
from twin.access.requests import Call

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
    "signing method. Consult the service documentation for details."
)
S3_MISMATCH = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
INVALID = "The security token included in the request is invalid."
EC2_INVALID = "AWS was not able to validate the provided access credentials"
# Kind: code, status and words; words are the failure's own where None. By family of protocols.
QUERY: dict[Kind, tuple[str, int, str | None]] = {
    Kind.MISSING_TOKEN: ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    Kind.INCOMPLETE_SIGNATURE: ("IncompleteSignature", 400, None),
    Kind.UNSUPPORTED_MECHANISM: ("IncompleteSignature", 400, "This region takes Signature Version 4 (AWS4-HMAC-SHA256) only."),
    Kind.UNKNOWN_KEY: ("InvalidClientTokenId", 403, INVALID),
    Kind.BAD_TOKEN: ("InvalidClientTokenId", 403, INVALID),
    Kind.EXPIRED_TOKEN: ("ExpiredToken", 403, "The security token included in the request is expired"),
    Kind.BAD_SIGNATURE: ("SignatureDoesNotMatch", 403, MISMATCH),
    Kind.CLOCK_SKEW: ("SignatureDoesNotMatch", 403, None),
    Kind.EXPIRED_URL: ("SignatureDoesNotMatch", 403, "Signature expired"),
    Kind.WRONG_REGION: ("SignatureDoesNotMatch", 403, "Credential should be scoped to a valid region."),
    Kind.PAYLOAD_MISMATCH: ("SignatureDoesNotMatch", 403, MISMATCH),
    Kind.DENIED: ("AccessDenied", 403, None),
    Kind.UNKNOWN_ACTION: ("InvalidAction", 400, None),
    Kind.UNSUPPORTED: ("InvalidAction", 400, None),
    Kind.MALFORMED: ("MalformedQueryString", 404, None),
    Kind.TOO_LARGE: ("RequestEntityTooLarge", 413, "The request is larger than this service takes."),
    Kind.INTERNAL: ("InternalFailure", 500, "The request processing has failed because of an unknown error."),
}
EC2 = QUERY | {
    Kind.UNKNOWN_KEY: ("AuthFailure", 401, EC2_INVALID),
    Kind.BAD_TOKEN: ("AuthFailure", 401, EC2_INVALID),
    Kind.BAD_SIGNATURE: ("AuthFailure", 401, EC2_INVALID),
    Kind.PAYLOAD_MISMATCH: ("AuthFailure", 401, EC2_INVALID),
    Kind.WRONG_REGION: ("AuthFailure", 401, EC2_INVALID),
    Kind.EXPIRED_TOKEN: ("RequestExpired", 400, "Request has expired."),
    Kind.CLOCK_SKEW: ("RequestExpired", 400, "Request has expired."),
    Kind.EXPIRED_URL: ("RequestExpired", 400, "Request has expired."),
    Kind.DENIED: ("UnauthorizedOperation", 403, None),
    Kind.UNSUPPORTED: ("UnsupportedOperation", 400, None),
    Kind.INTERNAL: ("InternalError", 500, "An internal error has occurred"),
}
JSON: dict[Kind, tuple[str, int, str | None]] = {
    Kind.MISSING_TOKEN: ("MissingAuthenticationTokenException", 400, "Request is missing Authentication Token"),
    Kind.INCOMPLETE_SIGNATURE: ("IncompleteSignatureException", 400, None),
    Kind.UNSUPPORTED_MECHANISM: (
        "IncompleteSignatureException",
        400,
        "This region takes Signature Version 4 (AWS4-HMAC-SHA256) only.",
    ),
    Kind.UNKNOWN_KEY: ("UnrecognizedClientException", 400, INVALID),
    Kind.BAD_TOKEN: ("UnrecognizedClientException", 400, INVALID),
    Kind.EXPIRED_TOKEN: ("ExpiredTokenException", 400, "The security token included in the request is expired"),
    Kind.BAD_SIGNATURE: ("InvalidSignatureException", 400, MISMATCH),
    Kind.CLOCK_SKEW: ("InvalidSignatureException", 400, None),
    Kind.EXPIRED_URL: ("InvalidSignatureException", 400, "Signature expired"),
    Kind.WRONG_REGION: ("InvalidSignatureException", 400, "Credential should be scoped to a valid region."),
    Kind.PAYLOAD_MISMATCH: ("InvalidSignatureException", 400, MISMATCH),
    Kind.DENIED: ("AccessDeniedException", 400, None),
    Kind.UNKNOWN_ACTION: ("UnknownOperationException", 400, None),
    Kind.UNSUPPORTED: ("UnsupportedOperation", 400, None),
    Kind.MALFORMED: ("SerializationException", 400, None),
    Kind.TOO_LARGE: ("RequestEntityTooLargeException", 413, "The request is larger than this service takes."),
    Kind.INTERNAL: ("InternalFailure", 500, "The request processing has failed because of an unknown error."),
}
_REST_403 = (
    *(Kind.MISSING_TOKEN, Kind.UNKNOWN_KEY, Kind.BAD_TOKEN, Kind.EXPIRED_TOKEN, Kind.BAD_SIGNATURE, Kind.CLOCK_SKEW),
    *(
        Kind.EXPIRED_URL,
        Kind.WRONG_REGION,
        Kind.PAYLOAD_MISMATCH,
        Kind.DENIED,
        Kind.INCOMPLETE_SIGNATURE,
        Kind.UNSUPPORTED_MECHANISM,
    ),
)
REST_JSON = JSON | {kind: (JSON[kind][0], 403, JSON[kind][2]) for kind in _REST_403}
REST_JSON |= {Kind.UNKNOWN_ACTION: ("UnknownOperationException", 404, None)}
S3: dict[Kind, tuple[str, int, str | None]] = QUERY | {
    Kind.MISSING_TOKEN: ("AccessDenied", 403, "Access Denied"),
    Kind.INCOMPLETE_SIGNATURE: ("AuthorizationHeaderMalformed", 400, None),
    Kind.WRONG_REGION: ("AuthorizationHeaderMalformed", 400, None),
    Kind.UNSUPPORTED_MECHANISM: (
        "InvalidRequest",
        400,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    ),
    Kind.UNKNOWN_KEY: ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
    Kind.BAD_TOKEN: ("InvalidToken", 400, "The provided token is malformed or otherwise invalid."),
    Kind.EXPIRED_TOKEN: ("ExpiredToken", 400, "The provided token has expired."),
    Kind.BAD_SIGNATURE: ("SignatureDoesNotMatch", 403, S3_MISMATCH),
    Kind.CLOCK_SKEW: (
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large.",
    ),
    Kind.EXPIRED_URL: ("AccessDenied", 403, "Request has expired"),
    Kind.PAYLOAD_MISMATCH: (
        "XAmzContentSHA256Mismatch",
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
    Kind.UNKNOWN_ACTION: ("MethodNotAllowed", 405, "The specified method is not allowed against this resource."),
    Kind.UNSUPPORTED: ("NotImplemented", 501, None),
    Kind.TOO_LARGE: ("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size"),
    Kind.INTERNAL: ("InternalError", 500, "We encountered an internal error. Please try again."),
}
# Denials of services with a code of their own.
DENIALS = {"sns": ("AuthorizationError", 403)}


def answer(failure: Failure, call: Call | None) -> Response:
    """The failure as the service would put it; S3's way when the service is unknown, as unsigned requests are S3's."""
    request_id = str(uuid.uuid4())
    service = call.service if call else "s3"
    protocol = call.protocol if call else "rest-xml"
    s3 = service in ("s3", "s3control")
    table = S3 if s3 else EC2 if protocol == "ec2" else JSON if protocol == "json" else QUERY
    if protocol == "rest-json":
        table = REST_JSON
    if failure.kind is Kind.OWN:
        code, status, message = failure.code, failure.status, failure.message
    else:
        code, status, words = table[failure.kind]
        message = words if words is not None else failure.message
        if failure.kind is Kind.UNKNOWN_ACTION:
            message = _unknown(failure.message, protocol) if words is None else words
    if failure.kind is Kind.DENIED:
        code, status = DENIALS.get(service, (code, status))
    if protocol in ("json", "rest-json"):
        return _json(call, failure.kind, code, status, message, request_id)
    if call and call.method == "HEAD":
        response = Response(b"", status)
    elif s3:
        text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"
        response = Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', status, mimetype="application/xml")
    elif protocol == "ec2":
        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        text = f"<Response><Errors>{error}</Errors><RequestID>{request_id}</RequestID></Response>"
        response = Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', status, mimetype="text/xml")
    else:
        side = "Receiver" if status >= 500 else "Sender"
        error = f"<Error><Type>{side}</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        text = f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"
        response = Response(text, status, mimetype="text/xml")
    response.headers["x-amz-request-id" if s3 else "x-amzn-RequestId"] = request_id
    return response


def _unknown(action: str, protocol: str) -> str:
    if protocol in ("query", "ec2"):
        return f"The action {action} is not valid for this web service."
    return f"The operation {action} is not known to this service."


def _json(call: Call | None, kind: Kind, code: str, status: int, message: str, request_id: str) -> Response:
    version = "1.1" if call and call.service in ("logs", "kms", "ssm", "secretsmanager", "events") else "1.0"
    rest = call is not None and call.protocol == "rest-json"
    body = {"Message": message, "message": message} if rest else {"__type": code, "message": message}
    mimetype = "application/json" if rest else f"application/x-amz-json-{version}"
    response = Response(json.dumps(body), status, mimetype=mimetype)
    response.headers["x-amzn-RequestId"] = request_id
    response.headers["x-amzn-ErrorType"] = code
    if call and call.query_compatible and kind in QUERY:
        # A service that spoke the query protocol before keeps its old codes beside the new.
        old, status, _ = QUERY[kind]
        response.status_code = status
        response.headers["x-amzn-query-error"] = f"{old};{'Receiver' if status >= 500 else 'Sender'}"
    return response
