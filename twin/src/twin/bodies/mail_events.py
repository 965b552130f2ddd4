"""SendGrid's signed event webhook: tells an address what became of each mail, again and again for a day until it listens.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from twin.bodies.mailbox import Mail, Mailbox

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
# Mails to this domain come back, all others arrive.
BOUNCES = "bounce.example.com"
REASON = "550 5.1.1 The email account that you tried to reach does not exist"
# SendGrid posts what it gathered within about 30 s, or 768 kB of it, which is more than so many events.
BATCH = 500
GATHER_SECONDS, ANSWER_SECONDS, KEEP_SECONDS = 10.0, 10.0, 24 * 3600
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Which events go where, by SendGrid's names."""

    enabled: bool = False
    url: str = ""
    processed: bool = False
    delivered: bool = False
    bounce: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if type(getattr(self, field.name)).__name__ != field.type:
                raise ValueError(f"{field.name} must be of type {field.type}")
        if self.enabled and not self.url.startswith(("http://", "https://")):
            raise ValueError("url must be one of http or https")


class EventWebhook:
    """Events wait in the mailbox's file, so that a twin that was killed goes on telling."""

    def __init__(self, folder: Path, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._file = folder / "webhook.json"
        self.settings = Settings(**json.loads(self._file.read_text())) if self._file.exists() else Settings()
        self._key = _key(folder / "webhook.pem")
        self._woken = threading.Event()
        threading.Thread(target=self._run, name="mail events", daemon=True).start()

    @property
    def public_key(self) -> str:
        """As SendGrid shows it: base64 of its DER form."""
        der = self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings; raises ValueError for those that can't be. Events that SendGrid has and this one never causes (open,
        click and so on) are passed over."""
        known = {field.name for field in fields(Settings)}
        settings = Settings(**{**asdict(self.settings), **{name: value for name, value in changes.items() if name in known}})
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(asdict(settings)))
        new.replace(self._file)
        self.settings = settings
        self._woken.set()

    def tell(self, mails: list[Mail]) -> None:
        """Have the events of mails that were taken told in a while."""
        settings = self.settings
        if not settings.enabled:
            return
        events = []
        for mail in mails:
            ends = "bounce" if mail.recipient.endswith(f"@{BOUNCES}") else "delivered"
            events += [_event(mail, kind) for kind in ("processed", ends) if getattr(settings, kind)]
        self._mailbox.queue_events([json.dumps(event) for event in events])
        self._woken.set()

    def _run(self) -> None:
        pause = 0.0
        while True:
            waiting = self._mailbox.waiting_events(BATCH) if self.settings.enabled else []
            if waiting and self._post([json.loads(content) for _, content in waiting]):
                pause = 0.0
                self._mailbox.forget_events([number for number, _ in waiting])
                if len(waiting) == BATCH:
                    continue
            elif waiting:
                pause = min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)
                late = time.time() - KEEP_SECONDS
                self._mailbox.forget_events([number for number, content in waiting if json.loads(content)["timestamp"] < late])
            self._woken.wait(pause or None)
            self._woken.clear()
            time.sleep(GATHER_SECONDS)

    def _post(self, events: list[dict[str, Any]]) -> bool:
        """Whether the address took these events."""
        body, timestamp = json.dumps(events).encode(), str(int(time.time()))
        signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: base64.b64encode(signature).decode(),
            TIMESTAMP: timestamp,
        }
        try:
            answer = requests.post(self.settings.url, data=body, headers=headers, timeout=ANSWER_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            log.info("mail events: %s", type(error).__name__)
            return False
        if not answer.ok:
            log.info("mail events: answered with %s", answer.status_code)
        return 200 <= answer.status_code < 300


def _event(mail: Mail, kind: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        **mail.custom_args,
        "email": mail.recipient,
        "timestamp": int(time.time()),
        "event": kind,
        "sg_event_id": secrets.token_urlsafe(16),
        "sg_message_id": mail.id,
    }
    if kind == "bounce":
        told |= {"type": "bounce", "status": "5.1.1", "reason": REASON}
    if kind == "delivered":
        told["response"] = "250 OK"
    return told


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The account's own key, made at its first use."""
    if file.exists():
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OSError(f"{file} is not the event webhook's key")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    frame = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.touch(0o600)
    file.write_bytes(key.private_bytes(*frame))
    return key
