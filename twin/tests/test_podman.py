"""Several regions on one store of podman's."""

from __future__ import annotations

import fcntl
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

from common import until

from twin.bodies.podman import LABEL, Podman, sweep
from twin.settings import Settings


def test_who_leaves_takes_nothing_from_who_begins(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, store=tmp_path / "store", name="leaving", slot=101)
    leaving, beginning = Podman(settings), Podman(replace(settings, name="beginning"))
    leaving.configure()
    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        archive.add(tmp_path / "store", "etc", recursive=False)
    leaving.run("import", "--quiet", str(tmp_path / "empty.tar"), "empty")
    leave = threading.Thread(target=leaving.leave)
    with beginning._store(fcntl.LOCK_SH):  # as during every command
        leave.start()
        # It has seen that there is no container, and is about to remove the folder.
        until(lambda: waits_for_lock(leaving.settings.store / "podman.lock"))
        beginning._run("create", "--name=first", f"--label={LABEL}=beginning", "--network=none", "empty", "/bin/true")
    leave.join()
    try:
        assert settings.runroot.exists()
        assert beginning.containers() == ["first"]
    finally:
        beginning.remove("first")
        beginning.leave()
    assert not settings.runroot.exists()


def test_empty_groups_go_with_the_last_container(tmp_path: Path) -> None:
    idle, busy = tmp_path / "cpu" / "conmon", tmp_path / "memory" / "libpod_parent"
    runtime = tmp_path / "run" / "runc"
    for folder in (idle, busy / "a-container", runtime, tmp_path / "libpod_parent" / "conmon"):
        folder.mkdir(parents=True)
    sweep(tmp_path, [runtime, tmp_path / "run" / "crun"])
    assert [folder.exists() for folder in (idle, busy, runtime, tmp_path / "libpod_parent")] == [False, True, False, False]


def waits_for_lock(file: Path) -> bool:
    """Whether somebody waits for a lock on the file, as /proc/locks shows by its inode: lines with an arrow wait."""
    inode = f":{file.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())
