"""Lambda whose functions run: states, settings that moto forgets, and invocations by a real runtime.

Refused, rather than recorded and not honoured: other runtimes than Python 3.13, container images, layers, VPC
settings and arm64. Recorded only: resource policies, tracing, provisioned concurrency, event source mappings' batches
(each message is one asynchronous invocation).
"""

from __future__ import annotations

import base64
import io
import json
import re
import uuid
import zipfile
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from moto.awslambda import models
from moto.awslambda.exceptions import InvalidParameterValueException
from moto.core.exceptions import JsonRESTError
from werkzeug.wrappers import Request, Response

from twin.bodies.execution_environment import Function
from twin.bodies.function import CONCURRENCY, TooManyRequests
from twin.bodies.lambda_runtime import RUNTIME
from twin.bodies.podman import PodmanError
from twin.region import sns
from twin.region.patch import replace, wrap
from twin.region.region import Region

INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
MAX_PAYLOAD = {"RequestResponse": 6 * 1024 * 1024, "Event": 1024 * 1024, "DryRun": 6 * 1024 * 1024}
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
RESERVED = {
    *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_RUNTIME_API"),
    *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
    *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
    *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
}


def body_of(record: Any) -> Function:
    """What the record's execution environments are made from."""
    return Function(
        name=record.function_name,
        version=str(record.version),
        arn=record.function_arn,
        handler=record.handler,
        role=record.role,
        memory=int(record.memory_size),
        timeout=int(record.timeout),
        code_sha256=base64.b64decode(record.code_sha_256).hex(),
        variables=tuple(sorted((record.environment_vars or {}).items())),
    )


def concurrency_of(record: Any) -> int:
    reserved = record.reserved_concurrency
    return CONCURRENCY if reserved is None else int(reserved)


def install(region: Region) -> None:
    _install_creation(region)
    _install_updates(region)
    _install_configuration()
    _install_invocations(region)
    sns.install(region)


def _check(spec: dict[str, Any]) -> None:
    if spec.get("PackageType", "Zip") != "Zip":
        raise InvalidParameterValueException(
            "This region runs no functions from container images: package the function as a zip."
        )
    for key, known in (("Runtime", (RUNTIME,)), ("Architectures", (["x86_64"],))):
        if key in spec and spec[key] not in known:
            raise InvalidParameterValueException(f"This region has {key} {known[0]} only, not {spec[key]}.")
    if spec.get("Layers"):
        raise InvalidParameterValueException("This region has no layers: put the packages into the function's zip.")
    if (spec.get("VpcConfig") or {}).get("SubnetIds"):
        raise InvalidParameterValueException("This region runs functions outside VPCs only: leave VpcConfig out.")
    reserved = sorted(RESERVED & set((spec.get("Environment") or {}).get("Variables") or {}))
    if reserved:
        raise InvalidParameterValueException(
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: "
            + ", ".join(reserved)
        )


def _check_package(record: Any) -> None:
    if not zipfile.is_zipfile(io.BytesIO(record.code_bytes)):
        message = "Could not unzip uploaded file. Please check your file, then try to upload again."
        raise InvalidParameterValueException(message)


def _install_creation(region: Region) -> None:
    @wrap(models.LambdaBackend, "create_function")
    def create_function(original: Any, self: Any, spec: dict[str, Any]) -> Any:
        if spec.get("PackageType", "Zip") == "Zip" and not spec.get("Runtime"):
            raise InvalidParameterValueException("Runtime is mandatory for a function that is packaged as a zip.")
        _check(spec)
        created = original(self, spec)
        record = self.get_function(created.function_name)
        try:
            _check_package(record)
        except InvalidParameterValueException:
            self.delete_function(created.function_name)
            raise
        for each in {id(created): created, id(record): record}.values():
            each.state = "Pending"
            each.dead_letter_config = spec.get("DeadLetterConfig") or {}
        region.wake("Functions")
        return created

    @wrap(models.LambdaBackend, "delete_function")
    def delete_function(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        result = original(self, *args, **options)
        region.wake("Functions")
        return result


def _install_updates(region: Region) -> None:
    @wrap(models.LambdaBackend, "update_function_code")
    def update_function_code(original: Any, self: Any, function_name: str, qualifier: Any, body: dict[str, Any]) -> Any:
        _check(body)
        record = self.get_function(function_name, qualifier)
        kept = {name: getattr(record, name) for name in ("code", "code_bytes", "code_size", "code_sha_256", "code_digest")}
        kept["code"] = dict(record.code)
        original(self, function_name, qualifier, body)
        try:
            _check_package(record)
        except InvalidParameterValueException:
            vars(record).update(kept)
            raise
        if not body.get("DryRun"):
            record.update_status = "InProgress"
            region.wake("Functions")
        return record.get_configuration()

    @wrap(models.LambdaBackend, "update_function_configuration")
    def update_function_configuration(original: Any, self: Any, function_name: str, qualifier: Any, body: dict[str, Any]) -> Any:
        _check(body)
        record = self.get_function(function_name, qualifier)
        original(self, function_name, qualifier, body)
        if "DeadLetterConfig" in body:
            record.dead_letter_config = body["DeadLetterConfig"] or {}
        if "TracingConfig" in body:
            record.tracing_config = body["TracingConfig"]
        if "KMSKeyArn" in body:
            record.kms_key_arn = body["KMSKeyArn"]
        if "EphemeralStorage" in body:
            record.ephemeral_storage = body["EphemeralStorage"]["Size"]
        record.update_status = "InProgress"
        region.wake("Functions")
        return record.get_configuration()


def _install_configuration() -> None:
    @wrap(models.LambdaFunction, "get_configuration")
    def get_configuration(original: Any, self: Any, on_create: bool = False) -> dict[str, Any]:
        configuration: dict[str, Any] = original(self, on_create)
        if self.state == "Pending":
            configuration |= {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
        elif self.state == "Failed":
            configuration |= {"StateReason": self.state_reason, "StateReasonCode": "InvalidZipFileException"}
        if not on_create:
            configuration["LastUpdateStatus"] = getattr(self, "update_status", "Successful")
        if configuration.get("LastUpdateStatus") == "Failed":
            configuration["LastUpdateStatusReason"] = self.state_reason
        if getattr(self, "dead_letter_config", None):
            configuration["DeadLetterConfig"] = self.dead_letter_config
        configuration["LoggingConfig"] = {"LogFormat": "Text", "LogGroup": self.logs_group_name}
        return configuration

    @replace(models.LambdaBackend, "put_function_event_invoke_config")
    def put_function_event_invoke_config(self: Any, function_name: str, config: dict[str, Any]) -> Any:
        """moto keeps every configuration ever put, and answers with the first."""
        record = self.get_function(function_name)
        kept = models.EventInvokeConfig(record.function_arn, record.last_modified, config)
        record.event_invoke_config = [kept]
        return kept.response()

    @replace(models.LambdaBackend, "update_function_event_invoke_config")
    def update_function_event_invoke_config(self: Any, function_name: str, config: dict[str, Any]) -> Any:
        record = self.get_function(function_name)
        previous = record.event_invoke_config[0].config if record.event_invoke_config else {}
        return self.put_function_event_invoke_config(function_name, {**previous, **config})


def _install_invocations(region: Region) -> None:
    @replace(models.LambdaFunction, "invoke")
    def invoke(self: Any, body: Any, request_headers: Any, response_headers: Any) -> bytes:
        """What moto's other services call when an event of theirs has a function to go to."""
        payload = body if isinstance(body, bytes) else str(body or "{}").encode()
        _functions(region).enqueue(self.function_arn, None, payload)
        return b""

    def route(environ: dict[str, Any]) -> Any | None:
        path = INVOKE.fullmatch(environ.get("PATH_INFO", ""))
        if environ["REQUEST_METHOD"] != "POST" or path is None:
            return None
        scope = environ.get("HTTP_AUTHORIZATION", "")
        if scope and "/lambda/" not in scope:
            return None  # an object of this name in a bucket of that one

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            return _answer(region, unquote(path[1]), Request(environ))(environ, start_response)

        return app

    region.routes.append(route)


def _functions(region: Region) -> Any:
    return region.loops["Functions"]


def _answer(region: Region, name: str, request: Request) -> Response:
    """https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""
    request_id = str(uuid.uuid4())
    kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
    qualifier = request.args.get("Qualifier")
    payload = request.get_data() or b"{}"
    headers = {"X-Amzn-RequestId": request_id, "X-Amz-Executed-Version": "$LATEST"}
    if kind not in MAX_PAYLOAD:
        return _refusal(400, "InvalidParameterValueException", f"InvocationType {kind} is not one of {', '.join(MAX_PAYLOAD)}")
    if len(payload) > MAX_PAYLOAD[kind]:
        message = f"Request must be smaller than {MAX_PAYLOAD[kind]} bytes for the InvokeFunction operation"
        return _refusal(413, "RequestTooLargeException", message)
    try:
        json.loads(payload)
    except ValueError as error:
        return _refusal(400, "InvalidRequestContentException", f"Could not parse request body into json: {error}")
    try:
        if kind == "DryRun":
            _functions(region).find(name, qualifier)
            return Response("", 204, headers=headers)
        if kind == "Event":
            _functions(region).enqueue(name, qualifier, payload, request_id)
            return Response("", 202, headers=headers)
        outcome, version = _functions(region).invoke(name, qualifier, payload, request_id)
    except JsonRESTError as error:
        return _refusal(error.code, error.error_type, error.message)
    except TooManyRequests:
        return _refusal(429, "TooManyRequestsException", "Rate Exceeded.")
    except (PodmanError, OSError) as error:
        return _refusal(500, "ServiceException", f"No execution environment could be made: {error}")
    headers["X-Amz-Executed-Version"] = version
    if outcome.error:
        headers["X-Amz-Function-Error"] = outcome.error
    if request.headers.get("X-Amz-Log-Type") == "Tail":
        headers["X-Amz-Log-Result"] = outcome.log_tail()
    return Response(outcome.payload, 200, mimetype="application/json", headers=headers)


def _refusal(status: int, kind: str, message: str) -> Response:
    body = json.dumps({"Type": "User" if status < 500 else "Service", "Message": message})
    return Response(body, status, mimetype="application/json", headers={"X-Amzn-ErrorType": kind})
