"""The outbox: messages committed with their cause, and published afterwards."""
