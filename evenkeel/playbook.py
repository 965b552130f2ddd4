"""Ansible on a target: the playbooks that operators run, with the target's environment and settings.

What a playbook says goes to the terminal, and what each of its tasks did to a log in the target's state folder.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from tempfile import NamedTemporaryFile

from evenkeel.host import ROOT, VENV
from evenkeel.steps import Failure
from evenkeel.target import Target

FOLDER = ROOT / "playbooks"
NICE = 15


def run(target: Target, name: str, variables: dict[str, str] | None = None) -> None:
    """Run playbooks/NAME.yml to its end. Raises Failure when it fails; the reason is on the terminal by then.

    ARGS in the environment holds more arguments for ansible-playbook, such as `--check` or `-e deploy_degraded=true`.
    """
    names = {"deploy_name": target.project(), "deploy_image_project": target.image_project()}
    given = {**names, "verification_name": target.project(), **(variables or {})}
    log = target.state / f"{name}.log"
    log.unlink(missing_ok=True)
    command = [str(VENV / "bin" / "ansible-playbook"), str(FOLDER / f"{name}.yml"), f"--extra-vars=@{_settings(target)}"]
    environment = {
        **target.environment(),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOG_PATH": str(log),
        "ANSIBLE_STDOUT_CALLBACK": "words",
        "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        # Each look at AWS is a process of its own, and reads boto3's source anew without this.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(ROOT / ".state" / "pycache"),
    }
    if target.local:  # the operator's work shares this machine with the fleet, which elsewhere it does not
        command = ["nice", f"--adjustment={NICE}", *command]
    # Who reads what it says is gone when this process is killed: then it ends too, and does not work on unseen.
    command = ["setpriv", "--pdeathsig=TERM", *command]
    # A file that only we can read: a person's address is nobody's business who lists processes.
    with NamedTemporaryFile("w", dir=target.state, prefix="variables-", suffix=".json") as file:
        json.dump(given, file)
        file.flush()
        command += [f"--extra-vars=@{file.name}", *shlex.split(os.environ.get("ARGS", ""))]
        status = _status(command, environment)
    if status:
        raise Failure(f"{name} failed (what each task did: {log.relative_to(ROOT)})")


def _status(command: list[str], environment: dict[str, str]) -> int:
    """Run it to its end, relay what it says, and return its exit status."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        relay(process.stdout or ())
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def relay(lines: Iterable[str]) -> None:
    """Show these lines as they come, all of them, even when nobody reads any more: Ansible waits for ever for its own process
    that could not write, and the rollout would be followed by nobody."""
    for line in lines:
        try:
            print(line, end="", flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settings(target: Target) -> str:
    """The target's own settings of rollouts."""
    file = FOLDER / "env" / f"{target.name}.yml"
    if not file.exists():
        raise Failure(f"TARGET={target.name}: there is no {file.relative_to(ROOT)}")
    return str(file)
