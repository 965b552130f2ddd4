"""Users: signing up, and reading one's own account."""
