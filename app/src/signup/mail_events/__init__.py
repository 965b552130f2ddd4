"""What became of mails after SendGrid took them, as its signed event webhook tells."""
