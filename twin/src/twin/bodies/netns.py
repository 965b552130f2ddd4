"""Network namespaces: run a piece of Python in one, and configure one through iproute2 and nftables."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    return Path("/run/netns") / name


def inside(name: str, function: Callable[[], T]) -> T:
    """Call `function` in namespace `name` and return its result; sockets it opens stay in that namespace.

    A thread of its own enters the namespace and ends there, so that no other thread ever moves.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            with open(path(name)) as namespace:
                if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns {name}: {os.strerror(number)}")
            result.append(function())
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _run(command: list[str], lines: str) -> None:
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def ip(batch: str, netns: str | None = None) -> None:
    """Run iproute2 commands, one a line; the first that fails raises OSError."""
    where = ["-netns", netns] if netns else []
    _run(["ip", *where, "-batch", "-"], batch)


def nft(ruleset: str, netns: str | None = None) -> None:
    """Apply an nftables ruleset in one transaction."""
    where = ["ip", "netns", "exec", netns] if netns else []
    _run([*where, "nft", "-f", "-"], ruleset)


def ip_json(query: str, netns: str | None = None) -> list[dict[str, Any]] | None:
    """iproute2's answer to a query; None when what it asks for is not there."""
    where = ["-netns", netns] if netns else []
    done = subprocess.run(["ip", "-json", *where, *query.split()], capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if not done.returncode else []
    return None if done.returncode else [entry for entry in found if entry]


def nft_json(query: str, netns: str | None = None) -> list[dict[str, Any]] | None:
    """nftables' objects that `query` lists; None when what it asks for is not there."""
    where = ["ip", "netns", "exec", netns] if netns else []
    done = subprocess.run([*where, "nft", "-j", *query.split()], capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"] if not done.returncode else []
    return None if done.returncode else found


def elements(objects: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The elements of the map that `nft_json` listed."""
    return [(key, value) for entry in objects if "map" in entry for key, value in entry["map"].get("elem", [])]


def listing() -> list[str]:
    folder = Path("/run/netns")
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def delete(name: str) -> None:
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
