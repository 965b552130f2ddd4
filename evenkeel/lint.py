"""`make lint`: every linter over what it is for; one line each, and the findings of those that have any."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from evenkeel.host import ROOT, VENV

CHECKS: dict[str, list[str]] = {
    "ruff format": ["ruff", "format", "--check", "--quiet", "."],
    "ruff": ["ruff", "check", "--quiet", "."],
    "mypy app": ["mypy", "--no-error-summary", "app/src"],
    "mypy verifier": ["mypy", "--no-error-summary", "verifier/src"],
    "mypy twin": ["mypy", "--no-error-summary", "twin/src"],
    "mypy evenkeel": ["mypy", "--no-error-summary", "evenkeel"],
    "mypy playbooks": [
        *("mypy", "--no-error-summary"),
        *(
            f"playbooks/{folder}"
            for folder in ("action_plugins", "callback_plugins", "filter_plugins", "library", "module_utils", "strategy_plugins")
        ),
    ],
    "yamllint": ["yamllint", "--strict", "."],
    "ansible-lint": ["ansible-lint", "--offline", "--strict", "-q"],
    "terraform fmt": ["terraform", "fmt", "-check", "-recursive", "terraform"],
    "actionlint": ["actionlint"],
    "zizmor": ["zizmor", "--quiet", "--pedantic", "--offline", ".github"],
    "packer validate": ["packer", "validate", "-syntax-only", "packer"],
}


def main() -> int:
    environment = {
        **os.environ,
        "PATH": f"{VENV / 'bin'}:/usr/bin:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    environment |= {"CHECKPOINT_DISABLE": "1", "ANSIBLE_HOME": str(ROOT / ".state" / "ansible")}
    failed = []
    for name, command in CHECKS.items():
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        print(f"lint  {name}: {'ok' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - began:.1f} s)", flush=True)
        if done.returncode:
            failed.append(name)
            print((done.stdout + done.stderr).strip())
    if failed:
        print(f"evenkeel: {', '.join(failed)} found something; `.venv/bin/ruff format .` mends formats", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
