"""Sending through SendGrid's v3 Mail Send API."""

from __future__ import annotations

from email.utils import parseaddr
from http.client import HTTPException

from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient

from verifier.mail import Mail

ACCEPTED = 202
# Request timeout, too early, too many requests: no word on the mail itself.
TEMPORARY = (408, 425, 429)


class MailUndeliveredError(Exception):
    """SendGrid is busy (TEMPORARY), failing (5xx), out of reach or not itself: worth trying again."""


class MailRefusedError(Exception):
    """SendGrid refuses the request (another 4xx): trying again won't help, someone has to look."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"SendGrid refused the mail with status {status}")


def send(*, api_key: str, host: str, timeout_seconds: float, sender: str, recipient: str, mail: Mail, message_id: str) -> None:
    """Send one mail; returns once SendGrid has queued it (202), which is not yet its delivery.

    `timeout_seconds` bounds each wait on the socket. SendGrid has no idempotency key; `custom_args.message_id` names
    the message in its events. Raises MailUndeliveredError or MailRefusedError, without the cause: SendGrid's answer
    and the library's errors may quote addresses.
    """
    client = SendGridAPIClient(api_key=api_key, host=host).client
    # The library has no timeout of its own. Set on its root client, it is handed down to each request.
    client.timeout = timeout_seconds
    name, address = parseaddr(sender)
    body = {
        "personalizations": [{"to": [{"email": recipient}]}],
        "from": {"email": address, **({"name": name} if name else {})},
        "subject": mail.subject,
        "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
        "custom_args": {"message_id": message_id},
        # Click tracking would send the token through, and store it at, another host.
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
            "subscription_tracking": {"enable": False},
        },
    }
    try:
        answer = client.mail.send.post(request_body=body)
    except HTTPError as error:
        status = int(error.status_code)
        if not 400 <= status < 500 or status in TEMPORARY:
            raise MailUndeliveredError(f"SendGrid answered {status}") from None
        raise MailRefusedError(status) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise MailUndeliveredError(f"SendGrid could not be reached: {type(reason).__name__}") from None
    # The library follows redirects, and any page at their end would look like success.
    if answer.status_code != ACCEPTED:
        raise MailUndeliveredError(f"SendGrid answered {answer.status_code}, which is not {ACCEPTED}")
