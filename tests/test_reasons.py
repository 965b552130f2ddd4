"""Why a bake failed, taken from what Packer and Ansible print."""

from __future__ import annotations

import pytest

from evenkeel.image import Reason

ITEM = """\
==> amazon-ebs.image: Provisioning with Ansible...
    amazon-ebs.image: TASK [hardening : Verify what the audits found] ****
    amazon-ebs.image: [ERROR]: Task failed: Action failed: Assertion failed
    amazon-ebs.image: failed: [default] (item=/usr/bin/find) =>
    amazon-ebs.image:     item:
    amazon-ebs.image:         msg: of the item
    amazon-ebs.image:     msg: '/usr/bin/find says ''/usr/local/bin/planted'',
    amazon-ebs.image:         and must say nothing.'
    amazon-ebs.image:
    amazon-ebs.image: PLAY RECAP *******
"""
GATE = """\
==> amazon-ebs.image: Running post-processor: shell-local
    amazon-ebs.image (shell-local): TASK [Wait until it says that it is healthy] ****
    amazon-ebs.image (shell-local): fatal: [10.0.0.1]: FAILED! =>
    amazon-ebs.image (shell-local):     msg: 'Status code was 503 and not [200]'
"""
PACKER = "==> amazon-ebs.image: Error launching source instance: no capacity\n"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (ITEM, "hardening : Verify what the audits found: /usr/bin/find says '/usr/local/bin/planted', and must say nothing."),
        (GATE, "Wait until it says that it is healthy: Status code was 503 and not [200]"),
        (PACKER, "Error launching source instance: no capacity"),
    ],
)
def test_a_failed_bake_says_which_task_and_why(output: str, words: str) -> None:
    reason = Reason()
    for line in output.splitlines(keepends=True):
        reason.read(line)
    assert str(reason) == words
