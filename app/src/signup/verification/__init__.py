"""Verification of an email address by the token that was mailed to it."""
