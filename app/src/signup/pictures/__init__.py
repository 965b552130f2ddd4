"""Pictures: one for each user, PNG or JPEG, kept in S3 and found by a row."""
