"""A region's records as bytes and back: moto's backends, and what the region itself remembers.

One pickle holds every backend, so that records which share an object share it again. A backend stands in it as a reference
to the one that the reading process has, followed by its attributes: whoever holds a backend sees the restored records.
What pickle can't carry, or what would make it large for nothing, is reduced here, by exact type.

Records are picklable when they hold plain data and instances of module-level classes. Locks come back open, S3's buffers and
packages of functions go by content into files beside the pickle, AWS's own policies come from moto's own list.
"""

from __future__ import annotations

import copyreg
import hashlib
import importlib
import io
import marshal
import os
import pickle
import threading
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from moto.awslambda.models import LambdaFunction
from moto.backends import get_backend
from moto.core.base_backend import AccountSpecificBackend, BackendDict
from moto.ec2.models import EC2Backend
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.s3.models import FakeKey, S3Backend, s3_backends

Reduced = tuple[Any, ...]

# Contents smaller than this stay in the pickle.
LARGE = 8192


class Blobs:
    """Large contents in files named after their SHA-256: written once, however often the records are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Holding the very bytes makes their id an identity: a buffer that is written to shows another object.
        self._known: dict[int, tuple[bytes, str]] = {}
        self._used: dict[int, tuple[bytes, str]] = {}

    def begin(self) -> None:
        self._used = {}

    def put(self, content: bytes) -> str:
        known = self._known.get(id(content)) or self._used.get(id(content))
        if known is None:
            known = content, hashlib.sha256(content).hexdigest()
            file = self.folder / known[1]
            if not file.exists():
                new = file.with_suffix(".new")
                new.touch(mode=0o600)
                new.write_bytes(content)
                new.replace(file)
        self._used[id(content)] = known
        return known[1]

    def get(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def keep_used(self) -> None:
        """Forget and delete what the records of the last pickle don't hold."""
        self._known = self._used
        names = {name for _, name in self._known.values()}
        for file in self.folder.iterdir():
            if file.name not in names:
                file.unlink()


# The store that a pickle being read takes its contents from.
_reading = threading.local()


def backends() -> dict[tuple[str, str, str], Any]:
    """Every backend in use, by service, account and region. Other partitions than `aws` are moto's own doing."""
    return {
        (each.service_name, account, region): backend
        for each in list(cast(Any, BackendDict)._instances)
        for account, region, backend in each.iter_backends()
        if not region.startswith(("aws-", "cn-", "us-gov-", "us-iso", "eu-isoe", "eusc-"))
    }


def dump(own: dict[str, Any], blobs: Blobs) -> bytes:
    """Pickle the region's `own` state and all of moto's. Call with the region's lock held. Raises an error of pickle's, with
    the name of the service whose records can't be pickled."""
    found = backends()
    blobs.begin()
    try:
        return _pickle((own, list(found.values())), found, blobs)
    except Exception as error:
        for name, content in (("the region", own), *(("/".join(key), backend) for key, backend in found.items())):
            try:
                _pickle(content, found, blobs)
            except Exception as cause:
                raise pickle.PicklingError(f"{name}: {cause}") from error
        raise


def load(data: bytes, blobs: Blobs) -> dict[str, Any]:
    """Put pickled records into moto's backends; returns the region's own state."""
    _reading.blobs = blobs
    own, _ = pickle.loads(data)  # noqa: S301 (from a folder that only this user writes)
    return dict(own)


def _pickle(content: Any, found: dict[tuple[str, str, str], Any], blobs: Blobs) -> bytes:
    output = io.BytesIO()
    pickler = pickle.Pickler(output, protocol=5)
    keys = {id(backend): key for key, backend in found.items()}

    def backend(value: Any) -> Reduced:
        key = keys.get(id(value))
        if key is None:
            return value.__reduce_ex__(5)  # type: ignore[no-any-return]
        return _backend, key, _state(value), None, None, _fill

    def large(value: FakeKey | LambdaFunction) -> Reduced:
        state = dict(vars(value))
        if isinstance(value, FakeKey):
            state["_value_buffer"] = _content(value._value_buffer)
        if isinstance(value, LambdaFunction) and state["code"].get("ZipFile"):
            state["code"] = {**state["code"], "ZipFile": ""}  # once more what `code_bytes` has; only its presence counts
        files = {name: blobs.put(part) for name, part in state.items() if isinstance(part, bytes) and len(part) >= LARGE}
        for name in files:
            del state[name]
        return _bare, (type(value),), (state, files), None, None, _fill_large

    pickler.dispatch_table = {
        **copyreg.dispatch_table,
        **dict.fromkeys(_dict_types(), _dict),
        **_REDUCERS,
        **{type(value): backend for value in found.values()},
        FakeKey: large,
        LambdaFunction: large,
    }
    pickler.dump(content)
    return output.getvalue()


# Backends


def _backend(service: str, account: str, region: str) -> Any:
    return get_backend(service)[account][region]  # type: ignore[call-overload]


def _state(backend: Any) -> dict[str, Any]:
    state = dict(vars(backend))
    if isinstance(backend, IAMBackend):
        # A thousand policies that every account has. Their ids are drawn anew by each process, so these are kept.
        state["aws_managed_policies"] = {policy.arn: policy.id for policy in backend.aws_managed_policies}
        state["managed_policies"] = {
            arn: policy for arn, policy in backend.managed_policies.items() if type(policy) is not AWSManagedPolicy
        }
    return state


def _fill(backend: Any, state: dict[str, Any]) -> None:
    if isinstance(backend, IAMBackend):
        ids = state["aws_managed_policies"]
        state["aws_managed_policies"] = backend.aws_managed_policies
        for policy in backend.aws_managed_policies:
            policy.id = ids.get(policy.arn, policy.id)
        state["managed_policies"] = {policy.arn: policy for policy in backend.aws_managed_policies} | state["managed_policies"]
    vars(backend).clear()
    vars(backend).update(state)
    if isinstance(backend, EC2Backend):
        for subnet in (each for by_zone in backend.subnets.values() for each in by_zone.values()):
            _begin_addresses(subnet)
    if isinstance(backend, S3Backend):
        for name in backend.buckets:
            s3_backends.bucket_accounts[name] = (backend.partition, backend.account_id)


def _begin_addresses(subnet: Any) -> None:
    """moto hands a subnet's addresses out in turn, and remembers whose turn it is outside the subnet. Begin again after those
    that AWS keeps for itself: it passes over those in use, and meets again those given back."""
    for _ in subnet.aws_reserved_ips:
        next(subnet._subnet_ip_generator, None)
    subnet._unused_ips = set()


def _registry(value: BackendDict[Any]) -> Reduced:
    return get_backend, (value.service_name,)


def _account(service: str, account: str) -> Any:
    return get_backend(service)[account]  # type: ignore[call-overload]


def _aws_policy(account: str, partition: str, arn: str, attachments: int) -> AWSManagedPolicy:
    policy: AWSManagedPolicy = next(p for p in _backend("iam", account, partition).aws_managed_policies if p.arn == arn)
    policy.attachment_count = attachments
    return policy


# Contents


def _content(file: SpooledTemporaryFile[bytes]) -> bytes:
    inner: Any = file._file
    if inner.closed:
        return b""
    if isinstance(inner, io.BytesIO):
        return inner.getvalue()
    inner.flush()
    return os.pread(inner.fileno(), os.fstat(inner.fileno()).st_size, 0)


def _bare(kind: Any) -> Any:
    return kind.__new__(kind)


def _fill_large(value: FakeKey | LambdaFunction, state: tuple[dict[str, Any], dict[str, str]]) -> None:
    plain, files = state
    attributes = plain | {name: _reading.blobs.get(file) for name, file in files.items()}
    if isinstance(value, FakeKey):
        content = attributes["_value_buffer"]
        attributes["_value_buffer"] = SpooledTemporaryFile(attributes["_max_buffer_size"])  # noqa: SIM115 (S3 closes it)
        attributes["_value_buffer"].write(content)
    vars(value).update(attributes)


# Python's own


def _code(function: types.FunctionType) -> Reduced:
    """A function by its module and name where that finds it, else by its code: the reader is the same Python and moto."""
    found: Any = importlib.import_module(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is function:
        return function.__module__, function.__qualname__, None, None, ()
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return function.__module__, function.__qualname__, marshal.dumps(function.__code__), function.__defaults__, cells


def _function(module: str, name: str, code: bytes | None, defaults: Any, cells: tuple[Any, ...]) -> Any:
    found: Any = importlib.import_module(module)
    if code is not None:
        closure = tuple(types.CellType(cell) for cell in cells)
        return types.FunctionType(marshal.loads(code), vars(found), name, defaults, closure)  # noqa: S302 (as above)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _default(value: defaultdict[Any, Any]) -> Reduced:
    factory: Any = value.default_factory
    if isinstance(factory, types.FunctionType):
        return _defaultdict, _code(factory), None, None, iter(value.items())
    return defaultdict, (factory,), None, None, iter(value.items())


def _defaultdict(*code: Any) -> defaultdict[Any, Any]:
    return defaultdict(_function(*code))


def _dict(value: dict[Any, Any]) -> Reduced:
    """A subclass of dict by what it holds: its own reading and writing may mean something else."""
    factory = value.default_factory if isinstance(value, defaultdict) else None
    code = _code(factory) if isinstance(factory, types.FunctionType) else None
    return (
        _bare,
        (type(value),),
        (vars(value), factory if code is None else None, code, list(dict.items(value))),
        None,
        None,
        _fill_dict,
    )


def _fill_dict(value: dict[Any, Any], state: tuple[dict[str, Any], Any, Reduced | None, list[tuple[Any, Any]]]) -> None:
    attributes, factory, code, items = state
    vars(value).update(attributes)
    if isinstance(value, defaultdict):
        value.default_factory = _function(*code) if code else factory
    for key, content in items:
        dict.__setitem__(value, key, content)


def _dict_types(base: type[Any] = dict) -> Iterator[type[Any]]:
    kind: type[Any]
    for kind in type.__subclasses__(base):
        if kind.__module__.startswith("moto.") and not issubclass(kind, BackendDict | AccountSpecificBackend):
            yield kind
        yield from _dict_types(kind)


def _private_key(value: Any) -> Reduced:
    plain = serialization.NoEncryption()
    return _load_key, (value.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain),)


def _load_key(content: bytes) -> Any:
    return serialization.load_der_private_key(content, None)


def _public_key(value: Any) -> Reduced:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return serialization.load_der_public_key, (value.public_bytes(encoding, form),)


def _certificate(value: x509.Certificate) -> Reduced:
    return _load_certificate, (value.public_bytes(serialization.Encoding.DER),)


def _load_certificate(content: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(content)


def _types(module: str, names: Iterable[str], reduce: Callable[[Any], Reduced]) -> dict[type, Callable[[Any], Reduced]]:
    """Classes of cryptography's own compiled module: the public names are abstract bases of theirs."""
    rust = importlib.import_module("cryptography.hazmat.bindings._rust")
    found = getattr(rust.openssl, module)
    return {getattr(found, name): reduce for name in names if hasattr(found, name)}


_REDUCERS: dict[type, Callable[[Any], Reduced]] = {
    type(threading.Lock()): lambda _: (threading.Lock, ()),
    type(threading.RLock()): lambda _: (threading.RLock, ()),
    # Without its waiters, who are threads of the process that ended.
    threading.Condition: lambda _: (threading.Condition, ()),
    weakref.WeakValueDictionary: lambda value: (weakref.WeakValueDictionary, (dict(value),)),
    defaultdict: _default,
    types.MappingProxyType: lambda value: (types.MappingProxyType, (dict(value),)),
    BackendDict: _registry,
    type(s3_backends): _registry,
    AccountSpecificBackend: lambda value: (_account, (value.service_name, value.account_id)),
    AWSManagedPolicy: lambda value: (_aws_policy, (value.account_id, value.partition, value.arn, value.attachment_count)),
    x509.Certificate: _certificate,
    **_types("rsa", ("RSAPrivateKey",), _private_key),
    **_types("ec", ("ECPrivateKey",), _private_key),
    **_types("ed25519", ("Ed25519PrivateKey",), _private_key),
    **_types("rsa", ("RSAPublicKey",), _public_key),
    **_types("ec", ("ECPublicKey",), _public_key),
    **_types("ed25519", ("Ed25519PublicKey",), _public_key),
}
