"""The sink's mails as pages for people.

A mail is a stranger's text: it is escaped, and its HTML part runs no script.
"""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

from twin.bodies.mailbox import Mail

# The HTML part is kept from loading anything: no trackers, no fonts, no scripts.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'self'; form-action 'none'"
LINK = re.compile(r"https?://[^\s<>\"']+")
STYLE = """\
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; vertical-align: top }
tr { border-bottom: 1px solid #8884 } pre { white-space: pre-wrap; font: inherit }
iframe { width: 100%; height: 26rem; border: 1px solid #8886; background: #fff }
"""


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>{body}</body></html>'
    )


def listing(mails: list[Mail]) -> str:
    """All mails, newest first."""
    rows = "".join(
        f"<tr><td><time>{escape(mail.received_at)}</time></td><td>{escape(mail.recipient)}</td>"
        f'<td><a href="/messages/{quote(mail.id)}">{escape(mail.subject) or "(no subject)"}</a></td></tr>'
        for mail in reversed(mails)
    )
    head = "<thead><tr><th>Received</th><th>To</th><th>Subject</th></tr></thead>"
    return _page(
        "Mails",
        f"<h1>Mails</h1><table>{head}<tbody>{rows}</tbody></table>" if rows else "<h1>Mails</h1><p>No mail yet.</p>",
    )


def message(mail: Mail) -> str:
    facts = {"From": mail.sender, "To": mail.recipient, "Received": mail.received_at, **mail.custom_args}
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    parts = ""
    if mail.text is not None:
        parts += f"<h2>Text</h2><pre>{_linked(mail.text)}</pre>"
    if mail.html is not None:
        source = escape('<base target="_blank">' + mail.html)
        parts += (
            '<h2>HTML</h2><iframe title="HTML part" sandbox="allow-popups allow-popups-to-escape-sandbox" '
            f'referrerpolicy="no-referrer" srcdoc="{source}"></iframe>'
        )
    return _page(mail.subject, f'<p><a href="/">All mails</a></p><h1>{escape(mail.subject)}</h1><table>{rows}</table>{parts}')


def _linked(text: str) -> str:
    pieces, end = [], 0
    for match in LINK.finditer(text):
        address = escape(match[0])
        pieces += [escape(text[end : match.start()]), f'<a rel="noreferrer" href="{address}">{address}</a>']
        end = match.end()
    return "".join([*pieces, escape(text[end:])])
