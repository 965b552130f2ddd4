"""A person at a browser: a real Chromium, which notes what no page may do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

# The smallest telephones in use, and a laptop.
WIDTHS = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 800}}
# Loopback counts as secure: a name that leads there does not, and Chromium sends it no Sec-Fetch-Site.
PLAIN = "signup.test"
ELSEWHERE = "http://elsewhere.example/"
SCHEMES = ("light", "dark")
IN_THE_DARK = ("sign-up",)
LONG = ("docs",)  # on which axe takes seconds


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; without its sandbox, which does not work for root."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", f"--host-resolver-rules=MAP {PLAIN} 127.0.0.1"]
        )
        yield browser
        browser.close()


class Visitor:
    """A window of a browser, with a look at each page for what is wrong with it."""

    def __init__(self, browser: Browser, width: str, pictures: Path | None = None, **options: Any) -> None:
        self.width = width
        # Without motion: a colour half way from light to dark is no page's colour.
        self.context: BrowserContext = browser.new_context(
            viewport=WIDTHS[width],  # type: ignore[arg-type]
            reduced_motion="reduce",
            **options,
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self._pictures = pictures
        self._scripts = options.get("java_script_enabled", True)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if "Cross-Origin-Opener-Policy header has been ignored" in message.text and PLAIN in self.page.url:
            return  # over plain HTTP it always is
        # Chromium says the status of a page that is an error on purpose, too.
        if urlsplit(message.location["url"]).path.startswith("/static/") or "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def look(self, name: str) -> None:
        """Nothing is broken, in light and dark; with `pictures`, keeps what is seen."""
        assert self.complaints == []
        assert [cookie.get("name") for cookie in self.context.cookies()] == []
        if not self._scripts:
            return
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the screen"
        assert self.page.evaluate("[...document.images].every(i => i.naturalWidth > 0)"), f"{name} lacks a picture"
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            if name not in LONG or (self.width, scheme) in (("phone", "light"), ("desktop", "dark")):
                self._measure()
            if self._pictures and (scheme == "light" or name in IN_THE_DARK):
                dark = "-dark" if scheme == "dark" else ""
                self.page.screenshot(path=self._pictures / f"{name}-{self.width}{dark}.png", full_page=name not in LONG)

    def _measure(self) -> None:
        found = Axe().run(self.page)
        assert found.violations_count == 0, found.generate_report()
        unsure = [node["html"] for each in found.response["incomplete"] for node in each["nodes"]]
        assert [html for html in unsure if "✓" not in html] == []  # a tick is no text, of which axe knows the contrast

    def sign_up(self, person: dict[str, str]) -> None:
        """Fill the form in by its labels, as people and screen readers find the fields, and send it."""
        for label, field in (("First name", "first_name"), ("Last name", "last_name")):
            self.page.get_by_label(label).fill(person[field])
        self.page.get_by_label("Email address").fill(person["email"])
        self.page.get_by_label("Password").fill(person["password"])
        self.press("Create account")

    def send_again(self, email: str) -> None:
        """Ask for another mail."""
        self.page.get_by_label("Email address").fill(email)
        self.press("Send another link")

    def open_elsewhere(self, body: str, referrer_policy: str) -> None:
        """Open a page of another site."""
        headers = {"Content-Type": "text/html", "Referrer-Policy": referrer_policy}
        self.page.route(ELSEWHERE, lambda route: route.fulfill(body=body, headers=headers))
        self.page.goto(ELSEWHERE)

    def press(self, name: str) -> None:
        """Press a button, and see where it leads."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name).click()

    def heading(self) -> str:
        """What the page says it is."""
        return self.page.get_by_role("heading", level=1).inner_text()
