"""SendGrid's signature: ECDSA on P-256 over the timestamp and the body as they came.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"


class EventKey:
    """The public key of the webhook, as SendGrid shows it: base64 without frame."""

    def __init__(self, text: str) -> None:
        # Here, so that a service without the webhook loads none of it.
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            key = load_der_public_key(base64.b64decode(text, validate=True))
        except (ValueError, TypeError):
            raise ValueError("it is no public key in base64") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("it is no public key on the curve P-256")
        self._key: Any = key

    def signed(self, signature: str, timestamp: str, body: bytes) -> bool:
        """Whether SendGrid signed this body at that time."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self._key.verify(base64.b64decode(signature, validate=True), timestamp.encode() + body, ec.ECDSA(SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
