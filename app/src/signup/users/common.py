"""Passwords that somebody would guess: common ones, and those made of what is known of their owner.

NIST SP 800-63B-4, section 3.1.1.2: the whole password is compared with what is commonly used or expected in this context,
never words within it, so that a passphrase of common words is welcome. Few common passwords are as long as a password must
be here; what people do to make them so is undone first: repetition, separators, a few digits and signs at either end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SERVICE = ("signup", "evenkeel")
ROWS = ("abcdefghijklmnopqrstuvwxyz", "1234567890", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")
SHORT = 3
FEW = 4


def is_expected(password: str, known: Iterable[str] = ()) -> bool:
    """Whether the password is a common one, or made of `known` (names, an address) and nothing of its own."""
    folded = _fold(password)
    joined = _joined(folded)
    if any(_is_common(form) for form in (folded, joined, _core(folded), _joined(_core(folded)))):
        return True
    left = joined
    for word in _words(known):
        left = left.replace(word, "")
    return left != joined and (len(left) <= FEW or _is_common(left) or _is_common(_core(left)))


def _is_common(text: str) -> bool:
    unit = _unit(text)
    return (
        0 < len(unit) <= SHORT
        or unit in common_passwords()
        or any(unit in row * 3 or unit in row[::-1] * 3 for row in ROWS if unit)
    )


def _unit(text: str) -> str:
    """The shortest beginning that, repeated and cut off, is the text: `abc` of `abcabca`."""
    sizes = (size for size in range(1, len(text)) if text.startswith(text[size:]))
    return text[: next(sizes, len(text))]


def _core(text: str) -> str:
    """The text without digits and signs at its ends, if those are few or common themselves."""
    ends = re.fullmatch(r"([\W\d_]*)(.*?)([\W\d_]*)", text, re.DOTALL)
    if ends is None or len(ends[2]) <= SHORT:
        return text
    return ends[2] if all(len(end) <= FEW or _is_common(end) for end in (ends[1], ends[3])) else text


def _words(known: Iterable[str]) -> list[str]:
    """What is known and its parts, longest first."""
    folded = [_fold(text) for text in known]
    words = {*SERVICE, *map(_joined, folded), *(word for text in folded for word in re.split(r"[\W_]+", text))}
    return sorted((word for word in words if len(word) >= SHORT), key=lambda word: (-len(word), word))


def _joined(text: str) -> str:
    return re.sub(r"[\W_]", "", text)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@cache
def common_passwords() -> frozenset[str]:
    """The bundled list."""
    text = (Path(__file__).parent / "common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))
