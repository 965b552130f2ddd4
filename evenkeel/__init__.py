"""The commands behind the Makefile: set a machine up, run the platform on a local region, bake, plan, report."""
