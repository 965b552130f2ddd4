"""The pages in a real Chromium: at a phone's and a desktop's width, in light and dark, without scripts, with axe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import PLAIN, WIDTHS, Visitor, chromium
from playwright.sync_api import Browser
from serving import Serve
from sqlalchemy import Engine, select

from signup.schema.tables import users

# `make screenshots` sets it.
PICTURES = Path(os.environ["SIGNUP_PICTURES"]) if "SIGNUP_PICTURES" in os.environ else None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def url(serve: Serve) -> str:
    return serve(SIGNUP_WORKERS="1")[0]


@pytest.fixture
def plain_url(url: str) -> str:
    """The same service as a browser sees it that reaches it over plain HTTP from elsewhere."""
    return url.replace("127.0.0.1", PLAIN)


@pytest.fixture
def link(token_of: Callable[..., str]) -> Callable[[str], str]:
    """The path of the link in an address's newest mail."""
    return lambda email: f"/verify?token={token_of(email)}"


def test_the_whole_way(browser: Browser, url: str, link: Callable[[str], str], person: dict[str, str]) -> None:
    for width in WIDTHS:
        with Visitor(browser, width, PICTURES) as visitor:
            page = visitor.page
            page.goto(url)
            visitor.look("sign-up")
            visitor.sign_up({**person, "last_name": "", "email": "ada@example", "password": "too short"})
            visitor.look("sign-up-errors")
            assert page.get_by_label("First name").input_value() == "Ada"
            assert page.get_by_label("Password").input_value() == ""
            visitor.sign_up({**person, "email": f"{width}@example.com"})
            assert visitor.heading() == "Check your mail"
            visitor.look("check-your-mail")
            visitor.send_again("ada")
            assert page.get_by_label("Email address").input_value() == "ada"
            visitor.send_again(f"{width}@example.com")
            visitor.look("another-link")
            page.goto(url + link(f"{width}@example.com"))
            visitor.look("confirm")
            visitor.press("Confirm my address")
            assert visitor.heading() == "Your address is confirmed"
            assert "token" not in page.url
            visitor.look("confirmed")
            page.goto(f"{url}/verify?token={'a' * 43}")
            visitor.press("Confirm my address")
            assert visitor.heading() == "This link no longer works"
            visitor.look("dead-link")
            page.goto(f"{url}/nowhere")
            visitor.look("nothing-here")
            page.goto(f"{url}/docs")
            visitor.look("docs")


def test_without_scripts_over_plain_http_with_a_taken_address(
    browser: Browser, plain_url: str, link: Callable[[str], str], person: dict[str, str]
) -> None:
    seen = []
    with Visitor(browser, "phone", java_script_enabled=False) as visitor:
        for _ in range(2):
            visitor.page.goto(plain_url)
            visitor.sign_up(person)
            seen.append((visitor.page.url, visitor.page.content()))
        visitor.page.goto(plain_url + link(person["email"]))
        visitor.press("Confirm my address")
        assert visitor.heading() == "Your address is confirmed"
        visitor.page.goto(plain_url)
        visitor.sign_up(person)
        seen.append((visitor.page.url, visitor.page.content()))
        visitor.look("check-your-mail")
    assert len(set(seen)) == 1


def test_with_keys_alone_and_the_errors_first(browser: Browser, url: str, person: dict[str, str]) -> None:
    with Visitor(browser, "desktop") as visitor:
        keys, page = visitor.page.keyboard, visitor.page
        page.goto(url)
        for word in ("", person["first_name"], person["last_name"], "ada", person["password"]):  # the first is the brand's link
            keys.press("Tab")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            if word:
                keys.type(word)
        keys.press("Enter")
        page.wait_for_selector("#email-error")
        # The summary has the focus without a script's help, and leads to the field, whose message is read out with it.
        assert page.evaluate("document.activeElement.className") == "summary"
        keys.press("Tab")
        keys.press("Enter")
        assert page.evaluate("document.activeElement.id") == "email"
        described = page.evaluate("document.activeElement.getAttribute('aria-describedby')").split()
        assert described == ["email-hint", "email-error"]
        assert "@-sign" in page.locator("#email-error").inner_text()
        keys.press("Control+A")
        keys.type(person["email"])
        keys.press("Tab")
        keys.type(person["password"])
        keys.press("Tab")
        keys.press("Enter")
        page.wait_for_url("**/check-your-mail")


def test_a_form_on_another_site_is_refused(
    browser: Browser, url: str, plain_url: str, database: Engine, person: dict[str, str]
) -> None:
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in person.items())
    for target in (url, plain_url):
        form = f'<form method="post" action="{target}/">{fields}<button>Win a boat</button></form>'
        for policy in ("unsafe-url", "no-referrer"):
            with Visitor(browser, "desktop") as visitor:
                visitor.open_elsewhere(form, policy)
                visitor.press("Win a boat")
                assert visitor.heading() == "Not from there"
    with database.connect() as connection:
        assert connection.execute(select(users)).all() == []
