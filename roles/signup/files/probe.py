"""Run inside the units' own sandbox: does the release work in there, and does the sandbox hold?

Usage: probe.py VERSION. Ends with 1 and the reasons on standard error when one of the two isn't so.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import os
import pwd
import sys
from pathlib import Path

# Where compiled code lives, which a system call filter or the ban on writable code breaks first.
MODULES = ("argon2", "boto3", "flask", "gunicorn.app.wsgiapp", "psycopg2", "signup", "sqlalchemy")
# Read-only for the service, whoever owns them: a write must fail by the mount, not just by the folder's mode.
READ_ONLY = ("/etc", "/opt/signup", "/usr", "/var")


def problems(version: str) -> list[str]:
    """Return what is wrong, in words; nothing when all is well."""
    found = []
    installed = importlib.metadata.version("signup")
    if installed != version:
        found.append(f"the release is signup {installed}, not {version}")
    for module in MODULES:
        try:
            importlib.import_module(module)
        except Exception as error:
            found.append(f"importing {module} fails: {error!r}")
    try:
        importlib.import_module("argon2").PasswordHasher().hash("a password")
    except Exception as error:
        found.append(f"hashing a password fails: {error!r}")
    user = pwd.getpwuid(os.getuid()).pw_name
    if user != "signup":
        found.append(f"the unit runs as {user}, not as signup")
    for folder in READ_ONLY:
        path = Path(folder, "signup-probe")
        try:
            path.touch()
            path.unlink()
        except OSError as error:
            if error.errno == errno.EROFS:
                continue
        found.append(f"the sandbox does not make {folder} read-only")
    if not Path("/proc/self/net/tcp").exists():
        found.append("the sandbox hides the machine's connections, which signup-drain counts")
    if Path("/proc/1/cmdline").exists():
        found.append("the sandbox shows the service other users' processes")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    for name, want in (("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapBnd", "0000000000000000")):
        if status[name] != want:
            found.append(f"the sandbox leaves {name} at {status[name]}, not {want}")
    return found


if __name__ == "__main__":
    found = problems(sys.argv[1])
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(bool(found))
