"""An instance's exit: noticing that Auto Scaling takes it out of service, and saying when its service has ended."""
