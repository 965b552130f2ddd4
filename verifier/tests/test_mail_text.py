"""What the mail says."""

from __future__ import annotations

from verifier.mail import render


def test_html_is_escaped() -> None:
    mail = render('http://h/"><script>&', "token", 600)
    assert "<script>" not in mail.html
    assert 'href="http://h/&quot;&gt;&lt;script&gt;&amp;/verify?token=token"' in mail.html


def test_the_lifetime_is_told_in_minutes() -> None:
    assert "works for 10 minutes" in render("http://h", "t", 600).text
    assert "works for 10 minutes" in render("http://h", "t", 600).html
