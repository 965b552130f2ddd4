"""A playbook goes on when whoever read what it says has left, as in `make deploy | head`."""

from __future__ import annotations

import subprocess
import sys

from evenkeel.host import ROOT

SAYS = """
import sys
from evenkeel.playbook import relay
relay(f"line {number}\\n" for number in range(20_000))
print("told to the end", file=sys.stderr)
"""


def test_what_is_said_after_the_reader_left_is_not_in_the_way() -> None:
    process = subprocess.Popen([sys.executable, "-c", SAYS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr
    assert process.stderr.read() == "told to the end\n"
