"""A real Chromium on the whole platform: signs up on a page, follows the mail's link, presses the button."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Browser
from support import Platform, wait_until

from app.tests.browsing import WIDTHS, Visitor, chromium

PASSWORD = "a lighthouse on every cape"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def base_url(platform: Platform) -> str:
    return platform.url


@pytest.fixture
def links(platform: Platform) -> Callable[[str], list[str]]:
    """The links that an address was mailed."""

    def find(email: str) -> list[str]:
        link = rf"{re.escape(platform.url)}/verify\?token=[\w-]+"
        return [re.search(link, mail["text"])[0] for mail in platform.mails(email)]  # type: ignore[index]

    return find


@pytest.mark.parametrize(("width", "scripts"), [*((width, True) for width in WIDTHS), ("phone", False)])
def test_signs_up_reads_the_mail_and_confirms(
    browser: Browser, base_url: str, links: Callable[[str], list[str]], width: str, scripts: bool
) -> None:
    email = f"ida-{uuid.uuid4().hex[:8]}@example.com"
    person = {"first_name": "Ida", "last_name": "Lewis", "email": email, "password": PASSWORD}
    with Visitor(browser, width, java_script_enabled=scripts) as visitor:
        visitor.page.goto(base_url)
        visitor.look("sign-up")
        visitor.sign_up({**person, "email": "ida@lighthouse"})
        visitor.look("sign-up-errors")
        visitor.sign_up(person)
        assert visitor.heading() == "Check your mail"
        visitor.look("check-your-mail")
        waiting = visitor.page.content()
        visitor.page.goto(wait_until("the mail", lambda: links(email))[0])
        visitor.look("confirm")
        refused = requests.get(f"{base_url}/v1/user/self", auth=(email, PASSWORD), timeout=30)
        assert refused.status_code == 403, refused.text
        visitor.press("Confirm my address")
        assert visitor.heading() == "Your address is confirmed"
        visitor.look("confirmed")
        account = requests.get(f"{base_url}/v1/user/self", auth=(email, PASSWORD), timeout=30)
        assert account.json()["verified"] is True
        # A taken address gets the same page.
        visitor.page.goto(base_url)
        visitor.sign_up(person)
        assert visitor.heading() == "Check your mail"
        assert visitor.page.content() == waiting
