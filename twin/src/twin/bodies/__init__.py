"""The real things behind the records: containers, networks, processes and the small servers they talk to."""
