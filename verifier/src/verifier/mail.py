"""The verification mail: what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

SUBJECT = "Confirm your email address"

TEXT = """\
Hello,

please confirm your email address. Open this link and press the button there:

{link}

The link works for {minutes} minutes. If you did not sign up, ignore this mail: nothing will happen.
"""

HTML = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{subject}</title></head>
<body style="font-family: sans-serif; line-height: 1.5">
<p>Hello,</p>
<p>please confirm your email address. Open this link and press the button there:</p>
<p><a href="{link}">Confirm my address</a></p>
<p>If the link does not open, copy this address into your browser:<br>{link}</p>
<p>The link works for {minutes} minutes. If you did not sign up, ignore this mail: nothing will happen.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class Mail:
    """A rendered mail."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


def render(public_url: str, token: str, lifetime_seconds: int) -> Mail:
    """The mail with the link to the page that confirms the token."""
    link = f"{public_url}/verify?token={quote(token, safe='')}"
    minutes = max(1, lifetime_seconds // 60)
    return Mail(
        subject=SUBJECT,
        text=TEXT.format(link=link, minutes=minutes),
        html=HTML.format(subject=escape(SUBJECT), link=escape(link), minutes=minutes),
    )
