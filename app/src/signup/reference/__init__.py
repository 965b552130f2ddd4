"""The contract as OpenAPI 3.1, built from what the service itself checks with, and a page to read it."""
