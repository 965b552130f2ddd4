"""Prints a line of metrics of the machine itself, in CloudWatch's embedded metric format: what EC2 does not see from outside.

Names and units are those of Amazon's agent, but for the inodes, of which it gives a number:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/metrics-collected-by-CloudWatch-agent.html
$OBSERVABILITY_METRICS_NAMESPACE is their namespace. They have no dimension, so that a fleet is one line, whoever is in it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def memory() -> float:
    """Percent of what could be had without swapping."""
    lines = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {name: int(rest.split()[0]) for name, rest in lines}
    return 100 * (1 - kibibytes["MemAvailable"] / kibibytes["MemTotal"])


def disk() -> tuple[float, float]:
    """Percent of the root file system's blocks and inodes, of those that are not root's own; a file system may have no inodes."""
    about = os.statvfs("/")
    blocks = about.f_blocks - about.f_bfree
    inodes = 100 * (1 - about.f_favail / about.f_files) if about.f_files else 0.0
    return 100 * blocks / (blocks + about.f_bavail), inodes


def main() -> None:
    blocks, inodes = disk()
    values = {"mem_used_percent": memory(), "disk_used_percent": blocks, "disk_inodes_used_percent": inodes}
    directive = {
        "Namespace": os.environ["OBSERVABILITY_METRICS_NAMESPACE"],
        "Dimensions": [[]],
        "Metrics": [{"Name": name, "Unit": "Percent"} for name in values],
    }
    head = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": head} | {name: round(value, 2) for name, value in values.items()}))


if __name__ == "__main__":
    main()
