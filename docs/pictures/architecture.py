"""Draws docs/pictures/architecture.svg: `python docs/pictures/architecture.py` (needs graphviz)."""

from __future__ import annotations

import subprocess
from pathlib import Path

ZONES = ("a", "b", "c")

HEAD = """
digraph evenkeel {
  rankdir=LR; bgcolor="white"; fontname="Helvetica"; nodesep=0.25; ranksep=0.55
  node [shape=box, style="rounded,filled", fillcolor="#eef3fb", color="#4a6fa5"]
  node [fontname="Helvetica", fontsize=11, margin="0.15,0.08"]
  edge [color="#56606e", fontname="Helvetica", fontsize=9, arrowsize=0.7]
"""


def zone(name: str) -> str:
    return f"""
  subgraph cluster_{name} {{
    label="zone {name}"; color="#b9c4d3"; style="rounded"; fontsize=10
    instance_{name} [label="instance\\nsignup + outbox"]
  }}
  alb -> instance_{name}
  instance_{name} -> database [label="{"one transaction" if name == "b" else ""}"]
  instance_{name} -> topic [style=dashed]
"""


def source() -> str:
    parts = [
        HEAD,
        'people [label="people", shape=ellipse, fillcolor="white"]',
        'alb [label="load balancer"]',
        'database [label="PostgreSQL\\n(users, outbox)", shape=cylinder, fillcolor="#fdf4e3"]',
        'topic [label="SNS topic"]',
        'verifier [label="verifier\\n(Lambda)"]',
        'tokens [label="DynamoDB\\n(token hashes)", shape=cylinder, fillcolor="#fdf4e3"]',
        'dead [label="dead-letter\\nqueue", fillcolor="#fbeaea"]',
        'mail [label="SendGrid"]',
        'bake [label="Packer + Ansible\\nbake an image", fillcolor="#eaf6ec", color="#4c8a57"]',
        'terraform [label="Terraform", fillcolor="#eaf6ec", color="#4c8a57"]',
        'bake -> instance_a [label="AMI", color="#4c8a57"]',
        'terraform -> alb [color="#4c8a57"]',
        "people -> alb",
        *map(zone, ZONES),
        "topic -> verifier",
        "verifier -> tokens",
        "verifier -> mail",
        "verifier -> dead [style=dotted]",
        'mail -> people [label="link", constraint=false]',
        "}",
    ]
    return "\n".join(parts)


def main() -> None:
    picture = Path(__file__).with_suffix(".svg")
    done = subprocess.run(["dot", "-Tsvg"], input=source(), capture_output=True, text=True, check=True)
    picture.write_text(done.stdout)


if __name__ == "__main__":
    main()
