"""Metrics, as lines of CloudWatch's embedded metric format in the log: nothing is sent, whoever ships the log ships them."""
