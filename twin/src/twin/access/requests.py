"""What a request asks: service, operation and parameters, by botocore's service models, whatever the protocol."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import parse_qsl

from botocore.exceptions import UnknownServiceError
from moto.backend_index import backend_url_patterns
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import MethodNotAllowed, NotFound

from twin.access import parameters
from twin.access.failures import Failure, Kind

# Signing names that differ from botocore's name of the service.
SERVICES = {
    "monitoring": "cloudwatch",
    "elasticloadbalancing": "elbv2",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
    "servicequotas": "service-quotas",
    "elasticfilesystem": "efs",
    "elasticmapreduce": "emr",
    "mobiletargeting": "pinpoint",
    "aps": "amp",
    "sso": "sso-admin",
    "timestream": "timestream-write",
    "bedrock": "bedrock-runtime",
    "aoss": "opensearchserverless",
    "cassandra": "keyspaces",
    "airflow": "mwaa",
}
# IAM's prefixes where they are not the signing name.
PREFIXES = {"cloudwatch": "cloudwatch", "resourcegroupstaggingapi": "tag", "dynamodbstreams": "dynamodb", "s3control": "s3"}
MEBIBYTE = 1024 * 1024
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and the services' own quotas, rounded up.
MAX_BODY = {"s3": 5 * 1024 * MEBIBYTE, "lambda": 72 * MEBIBYTE, "dynamodb": 17 * MEBIBYTE}
MAX_OTHER_BODY = 8 * MEBIBYTE
# Bodies beyond this go to a file; what is parsed is never longer.
IN_MEMORY = 4 * MEBIBYTE


@dataclass
class Call:
    """One API request. `operation` is empty until it is known."""

    service: str
    signing_name: str
    region: str
    protocol: str
    method: str
    operation: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    query_compatible: bool = False

    @property
    def prefix(self) -> str:
        """The service's prefix in IAM's actions."""
        return PREFIXES.get(self.service, self.signing_name)


def read_body(environ: dict[str, Any], service: str) -> tuple[IO[bytes], str]:
    """The body, taken off the connection (so that a slow client holds nothing else up), and its SHA-256.

    `environ` is left so that whoever comes next can read it again. Raises Failure when it is longer than the service takes.
    """
    limit = MAX_BODY.get(service, MAX_OTHER_BODY)
    source = environ["wsgi.input"]
    chunked = bool(environ.get("wsgi.input_terminated")) or "HTTP_TRANSFER_ENCODING" in environ
    stated = environ.get("CONTENT_LENGTH") or "0"
    left = limit + 1 if chunked else int(stated) if stated.isdigit() else 0
    if not chunked and left > limit:
        raise Failure(Kind.TOO_LARGE)
    digest = hashlib.sha256()
    body: IO[bytes] = io.BytesIO() if left <= IN_MEMORY else tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
    total = 0
    while left > 0 and (chunk := source.read(min(left, MEBIBYTE))):
        digest.update(chunk)
        body.write(chunk)
        left -= len(chunk)
        total += len(chunk)
    if total > limit:
        raise Failure(Kind.TOO_LARGE)
    body.seek(0)
    environ["wsgi.input"] = body
    if chunked:
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.pop("wsgi.input_terminated", None)
        environ["CONTENT_LENGTH"] = str(total)
    return body, digest.hexdigest()


def identify(environ: dict[str, Any], signing_name: str, region: str) -> Call:
    """The call with its service and protocol, before its body is read. Raises Failure for a service AWS does not have either."""
    signing_name = signing_name.lower()
    service = SERVICES.get(signing_name, signing_name)
    path = environ.get("PATH_INFO", "/")
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if signing_name == "s3" and path.startswith("/v20180820/"):
        service = "s3control"
    elif signing_name == "ses" and path.startswith("/v2/"):
        service = "sesv2"
    elif signing_name == "dynamodb" and target.startswith("DynamoDBStreams"):
        service = "dynamodbstreams"
    call = Call(service, signing_name, region, "json" if target else "query", environ["REQUEST_METHOD"])
    call.headers = {
        name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_") and value
    }
    try:
        model = get_service_model(service)
    except (UnknownServiceError, ValueError):
        raise Unavailable(call) from None
    protocols = model.metadata.get("protocols", [model.protocol])
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip()
    if target and "json" in protocols:
        call.protocol = "json"
    elif "ec2" in protocols or (content_type == "application/x-www-form-urlencoded" and "query" in protocols):
        call.protocol = "ec2" if "ec2" in protocols else "query"
    else:
        # A presigned URL of a service of several protocols is in its query form.
        call.protocol = next((known for known in ("rest-xml", "rest-json", "query", "json") if known in protocols), "json")
    call.query_compatible = "awsQueryCompatible" in model.metadata
    if not _in_moto(service, signing_name, region):
        raise Unavailable(call)
    return call


class Unavailable(Failure):
    """A service that AWS may have, and this region has not."""

    def __init__(self, call: Call) -> None:
        super().__init__(Kind.UNSUPPORTED, f"The service {call.signing_name} is not supported by the twin.")
        self.call = call


def _in_moto(service: str, signing_name: str, region: str) -> bool:
    if service in ("s3control", "dynamodbstreams", "sesv2", "elbv2"):
        return True
    hosts = (f"http://{signing_name}.{region}.amazonaws.com", f"http://{signing_name}.amazonaws.com")
    return any(pattern.match(host) for _, pattern in backend_url_patterns for host in hosts)


def parse(call: Call, environ: dict[str, Any], body: IO[bytes]) -> None:
    """Fill in the call's operation and parameters. Raises Failure for an unknown action or a malformed body."""
    if call.protocol in ("query", "ec2"):
        _parse_query(call, environ, body)
    elif call.protocol == "json":
        _parse_json(call, environ, body)
    else:
        _parse_rest(call, environ, body)
    body.seek(0)


def check_required(call: Call) -> None:
    """Raises Failure when a parameter that the operation can't do without is missing."""
    shape: Any = get_service_model(call.service).operation_model(call.operation).input_shape
    if shape is None or call.protocol not in ("query", "ec2", "json"):
        return
    for name in shape.required_members:
        wire = shape.members[name].serialization.get("name", name) if call.protocol == "json" else name
        # An empty list is not sent at all in the EC2 protocol.
        if wire not in call.parameters and not (call.protocol == "ec2" and shape.members[name].type_name == "list"):
            if call.protocol == "ec2":
                raise Failure(Kind.OWN, f"The request must contain the parameter {name}", "MissingParameter")
            words = f"1 validation error detected: Value null at '{name[:1].lower()}{name[1:]}' failed to satisfy constraint: "
            code = "ValidationException" if call.protocol == "json" else "ValidationError"
            raise Failure(Kind.OWN, f"{words}Member must not be null", code)


def _operation(call: Call, name: str) -> Any:
    call.operation = name
    model = get_service_model(call.service)
    if name not in model.operation_names:
        raise Failure(Kind.UNKNOWN_ACTION, name)
    return model.operation_model(name)


def _parse_query(call: Call, environ: dict[str, Any], body: IO[bytes]) -> None:
    try:
        text = environ.get("QUERY_STRING", "")
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            text += ("&" if text else "") + body.read().decode()
        # AWS takes what has no "=" for a name without a value.
        pairs = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20000))
    except ValueError:
        raise Failure(Kind.MALFORMED, "The query string contains a syntax error.") from None
    if "Action" not in pairs:
        raise Failure(Kind.OWN, "Could not find operation: the request has no Action.", "MissingAction")
    if call.service == "elbv2" and pairs.get("Version") == "2012-06-01":
        call.service = "elb"
    operation = _operation(call, pairs["Action"])
    if operation.input_shape is not None:
        call.parameters = parameters.parse(operation.input_shape, pairs, ec2=call.protocol == "ec2")


def _parse_json(call: Call, environ: dict[str, Any], body: IO[bytes]) -> None:
    prefix, _, name = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")
    if not name or prefix != get_service_model(call.service).metadata.get("targetPrefix"):
        raise Failure(Kind.UNKNOWN_ACTION, name)
    _operation(call, name)
    call.parameters = _object(body.read())


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        raise Failure(Kind.MALFORMED, "The request body is not valid JSON.") from None
    if not isinstance(found, dict):
        raise Failure(Kind.MALFORMED, "Start of structure or map found where not expected.")
    return found


def _parse_rest(call: Call, environ: dict[str, Any], body: IO[bytes]) -> None:
    # The router must not take the body: it looks at path, query and headers only.
    request = Request({**environ, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"})
    try:
        operation, path = get_service_router(call.service).match(request)
    except (NotFound, MethodNotAllowed, NotImplementedError):
        raise Failure(Kind.UNKNOWN_ACTION, f"{call.method} {environ.get('PATH_INFO', '/')}") from None
    call.operation = operation.name
    shape: Any = operation.input_shape
    if shape is None:
        return
    payload = shape.serialization.get("payload")
    streams = payload is not None and shape.members[payload].type_name in ("blob", "string")
    content = b"" if streams else body.read()
    if call.protocol == "rest-json" and not streams:
        _object(content)
    parser = PROTOCOL_PARSERS[call.protocol](operation)
    wire: Any = {
        "method": call.method,
        "values": request.args,
        "headers": request.headers,
        "body": content,
        "url_path": request.path,
        "url_params": path,
    }
    try:
        if call.protocol == "rest-xml" and content:
            ElementTree.fromstring(content)  # noqa: S314 (expat limits entity expansion since 2.4.1)
        parsed = parser.parse(wire)
    except ElementTree.ParseError:
        raise Failure(
            Kind.OWN, "The XML you provided was not well-formed or did not validate against our published schema", "MalformedXML"
        ) from None
    except Exception as error:
        raise Failure(Kind.MALFORMED, f"The request could not be read: {error}") from None
    call.parameters = {name: value for name, value in parsed.items() if value is not None}
