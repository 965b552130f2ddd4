"""Health of the process, the instance and its database."""
