#!/usr/bin/python
"""Ansible module: messages that were given up, listed or published again. See DOCUMENTATION."""

from __future__ import annotations

from typing import Any

import botocore.exceptions as botocore
from ansible.module_utils.letters import Letter, LetterQueue, parsed
from ansible.module_utils.mails import SentMails
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

DOCUMENTATION = r"""
module: dead_letters
short_description: List the messages in a dead-letter queue, or publish them again
description:
  - Reads a queue of SNS notifications and of Lambda's records of failed events, and publishes their messages to the topic again.
  - An entry is deleted only when its messages are published. Interrupted between the two, the next run publishes them a second
    time, which their reader has to tell by their ids. Two runs at once don't see the same entries.
  - An entry whose messages can't be read, or which SNS refuses, stays and is counted. One whose messages are done already goes.
  - Entries that come while the module runs are left for the next time.
options:
  queue:
    description: Name of the queue.
    type: str
    required: true
  state:
    description: V(listed) changes nothing; V(replayed) publishes and deletes. In check mode V(replayed) lists.
    type: str
    choices: [listed, replayed]
    default: listed
  topic:
    description: Name of the topic to publish to, in the queue's own region and account, for O(state=replayed).
    type: str
  limit:
    description: At most so many entries.
    type: int
    default: 1000
  sent_table:
    description: DynamoDB table of the messages that are done. With it, RV(rows) says which of the replayed ones are.
    type: str
  wait_seconds:
    description: For how long to wait until all replayed messages are done, with O(sent_table).
    type: float
    default: 0
author: [Evenkeel]
"""

EXAMPLES = r"""
- name: See what was given up
  dead_letters:
    queue: evenkeel-verification-dead-letter

- name: Publish it again
  dead_letters:
    queue: evenkeel-verification-dead-letter
    state: replayed
    topic: evenkeel-verification
    sent_table: evenkeel-idempotency
    wait_seconds: 60
"""

RETURN = r"""
rows:
  description:
    - One for each message, with its ids, when it occurred, when and why it was given up, and C(fate), which is waits, unreadable,
      replayed, sent or sent before. No address is among them.
  type: list
  returned: always
replayed:
  description: How many messages were published again.
  type: int
  returned: always
late:
  description: How many entries came meanwhile, and are left for the next time.
  type: int
  returned: always
more:
  description: Whether there are more entries than O(limit).
  type: bool
  returned: always
"""

ARGUMENTS = {
    "queue": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["listed", "replayed"], "default": "listed"},
    "topic": {"type": "str"},
    "limit": {"type": "int", "default": 1000},
    "sent_table": {"type": "str"},
    "wait_seconds": {"type": "float", "default": 0},
}


REFUSED = ("InvalidParameter", "InvalidParameterValue")


def replay(sns: Any, topic_arn: str, letter: Letter) -> bool:
    """Publish an entry's messages; False where they are none that SNS takes."""
    try:
        for text in letter.messages:
            sns.publish(TopicArn=topic_arn, Message=text)
    except (botocore.ParamValidationError, UnicodeError):
        return False
    except botocore.ClientError as error:
        if error.response["Error"]["Code"] not in REFUSED:
            raise
        return False
    return True


def work(module: AnsibleAWSModule) -> dict[str, Any]:
    options = module.params
    replaying = options["state"] == "replayed" and not module.check_mode
    queue = LetterQueue(module.client("sqs"), options["queue"])
    sns, topic_arn = (module.client("sns"), queue.topic_arn(options["topic"])) if replaying else (None, "")
    sent = SentMails(module.client("dynamodb"), options["sent_table"]) if options["sent_table"] else None
    rows: list[dict[str, Any]] = []
    replayed = 0
    with queue:
        for letter in queue.take(options["limit"]):
            fates = ["waits" if letter.messages else "unreadable"] * max(1, len(letter.messages))
            if letter.messages and sent:
                ids = [str(parsed(text).get("message_id") or "") for text in letter.messages]
                fates = ["sent before" if sent.sent(each) else "waits" for each in ids]
            if replaying and "waits" in fates:
                if replay(sns, topic_arn, letter):
                    replayed += len(letter.messages)
                    fates = ["replayed" if fate == "waits" else fate for fate in fates]
                else:
                    fates = ["unreadable"] * len(fates)
            # Published first: an entry that is still there can be published again, one that is gone can't.
            if replaying and "unreadable" not in fates:
                queue.remove(letter)
            rows += [{**row, "fate": fate} for row, fate in zip(letter.rows(), fates, strict=True)]
    if sent and replaying:
        done = sent.await_sent(
            {row["message_id"] for row in rows if row["fate"] == "replayed" and row["message_id"] != "-"},
            options["wait_seconds"],
        )
        rows = [{**row, "fate": "sent"} if row["fate"] == "replayed" and row["message_id"] in done else row for row in rows]
    would = options["state"] == "replayed" and any(row["fate"] != "unreadable" for row in rows)
    return {"changed": would, "rows": rows, "replayed": replayed, "late": queue.late, "more": queue.more}


def main() -> None:
    module = AnsibleAWSModule(argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "replayed", ("topic",))])
    try:
        answer = work(module)
    except Exception as error:  # whatever boto3 raises
        module.fail_json_aws(error, msg=f"{module.params['queue']} can't be {module.params['state']}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
