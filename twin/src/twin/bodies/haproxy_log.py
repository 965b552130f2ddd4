"""HAProxy's lines about requests: written to a file that outlives the twin's process, and read from there once.

What has been read is given back to the file system, so the file takes no room however long HAProxy runs.
"""

from __future__ import annotations

import ctypes
import json
import os
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_BLOCK = 4096
_LIMIT = 8 << 20  # bytes read at once

# HAProxy's log-format for each field; json() escapes the tabs that part them.
_FIELDS = {
    "frontend": "%f",
    "ended": "%Ts",
    "milliseconds": "%ms",
    "client": "%ci:%cp",
    "backend": "%b",
    "server": "%s",
    "target": "%si:%sp",
    "receiving": "%TR",
    "queued": "%Tw",
    "connecting": "%Tc",
    "responding": "%Tr",
    "total": "%Ta",
    "status": "%[var(txn.status)]",
    "haproxy_status": "%ST",
    "target_status": "%[var(txn.target_status)]",
    "received": "%U",
    "sent": "%B",
    "method": "%[capture.req.method]",
    "uri": "%[capture.req.uri,json(utf8s)]",
    "version": "%HV",
    "host": "%[var(txn.host),json(utf8s)]",
    "agent": "%[var(txn.agent),json(utf8s)]",
    "trace": "%[var(txn.trace),json(utf8s)]",
    "cipher": "%sslc",
    "protocol": "%sslv",
    "server_name": "%[ssl_fc_sni,json(utf8s)]",
    "certificate": "%[ssl_f_sha1,hex]",
    "alpn": "%[ssl_fc_alpn]",
    "port": "%fp",
    "priority": "%[var(txn.priority)]",
    "action": "%[var(txn.action)]",
    "location": "%[var(txn.location),json(utf8s)]",
    "connection": "%[var(sess.connection)]",
    "upgrade": "%[var(txn.upgrade),json(utf8s)]",
    "ending": "%tsc",
}
_MARK = "request"
FORMAT = "\t".join((_MARK, *_FIELDS.values()))


@dataclass(frozen=True)
class Request:
    """A request that HAProxy has answered. Empty text is what was not known; times in seconds, -1 if it did not come to that.

    `status` is what the client got, 0 for a connection closed without an answer; `target_status` what the target said,
    0 if it said nothing. `target` is "address:port" of the chosen target, whether it answered or not.
    """

    ended: float
    frontend: str
    backend: str
    client: str
    target: str
    waiting: float
    responding: float
    status: int
    target_status: int
    received: int
    sent: int
    fields: dict[str, str]

    def __getitem__(self, name: str) -> str:
        """Any other field of the line, as text."""
        return self.fields[name]

    @property
    def connection_failed(self) -> bool:
        """Whether no connection to the chosen target came about, by refusal or by time."""
        return bool(self.target) and self.fields["ending"][:2] in ("SC", "sC")


def parse(line: str) -> Request | None:
    """The request that a line tells of; None for HAProxy's other lines."""
    mark, *values = line.split("\t")
    if mark != _MARK or len(values) != len(_FIELDS):
        return None
    fields = {}
    for (name, form), value in zip(_FIELDS.items(), values, strict=True):
        known = "" if value in ("-", "<NOSRV>", "<BADREQ>", "-:-") else value
        fields[name] = str(json.loads(f'"{known}"', strict=False)) if "json(" in form else known
    number = {name: int(fields[name]) if fields[name].lstrip("-").isdigit() else 0 for name in _FIELDS}
    waiting = max(number["receiving"], 0) + max(number["queued"], 0) + max(number["connecting"], 0)
    responding = number["responding"] / 1000 if number["responding"] >= 0 else -1.0
    backend = fields["backend"] if fields["backend"] != fields["frontend"] else ""
    for suffix in ("-open", "-former"):
        backend = backend.removesuffix(suffix)
    return Request(
        ended=number["ended"] + number["milliseconds"] / 1000 + max(number["total"], 0) / 1000,
        frontend=fields["frontend"].rstrip("~"),
        backend=backend if fields["server"] else "",
        client=fields["client"],
        target=fields["target"] if fields["server"] else "",
        waiting=waiting / 1000 if number["connecting"] >= 0 else -1.0,
        responding=responding,
        status=number["status"] or max(number["haproxy_status"], 0),
        target_status=number["target_status"],
        received=number["received"],
        sent=number["sent"],
        fields=fields,
    )


class RequestLog:
    """The file that HAProxy appends its lines to; `position` is up to where they have been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def read(self) -> list[Request]:
        """The requests since the last call, not all at once if there are very many."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return []
        try:
            if os.fstat(descriptor).st_size < self.position:
                self.position = 0  # the file is another one
            text = os.pread(descriptor, _LIMIT, self.position)
            complete = text[: text.rfind(b"\n") + 1]
            start = self.position // _BLOCK * _BLOCK
            self.position += len(complete)
            whole = self.position // _BLOCK * _BLOCK
            if whole > start:
                # Only whole blocks are freed. A file system that can't keeps them until HAProxy ends.
                mode = _KEEP_SIZE | _PUNCH_HOLE
                _libc.fallocate64(descriptor, mode, ctypes.c_int64(start), ctypes.c_int64(whole - start))
        finally:
            os.close(descriptor)
        lines = complete.decode(errors="replace").lstrip("\0").split("\n")
        return [request for line in lines if (request := parse(line))]
