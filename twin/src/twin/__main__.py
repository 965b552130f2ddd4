"""`python -m twin`: run the region in the foreground until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from twin.settings import Settings

_ACTIONS = (
    "prepare: make the machine images the bodies start from; serve: run until SIGTERM; clear: remove what a killed twin left"
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="twin", description="An AWS region on one machine.")
    parser.add_argument("action", choices=("prepare", "serve", "clear"), help=_ACTIONS)
    parser.add_argument("--name", default="evenkeel", help="prefix of everything the twin makes (default: evenkeel)")
    parser.add_argument("--slot", type=int, default=77, help="64 to 127: its addresses are 127.SLOT.0.0/16 (default: 77)")
    parser.add_argument("--state", type=Path, required=True, help="folder for the twin's state")
    parser.add_argument("--store", type=Path, required=True, help="folder for podman's images and containers, shared by twins")
    scale = os.environ.get("TWIN_RETRY_SCALE", str(Settings.retry_scale))
    waits = "Lambda's waits before it tries again, as a share of AWS's (default: the variable TWIN_RETRY_SCALE, or 0.05)"
    parser.add_argument("--retry-scale", type=float, default=scale, help=waits)
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        settings = Settings(options.state, options.store, name=options.name, slot=options.slot, retry_scale=options.retry_scale)
    except ValueError as error:
        print(f"twin: {error}", file=sys.stderr)
        return 2

    if options.action == "prepare":
        return prepare(settings)

    from twin.server import AddressTaken, Twin  # moto takes seconds to import: only once the arguments are right

    twin = Twin(settings)
    if options.action == "clear":
        twin.clear()
        return 0
    try:
        twin.start()
    except AddressTaken as error:  # perhaps by this very twin, whose bodies must stay
        print(f"twin: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"twin: {error}", file=sys.stderr)
        twin.clear()
        return 1
    logging.getLogger("twin").info("ready at %s", settings.endpoint_url)
    twin.run()
    return 0


def prepare(settings: Settings) -> int:
    """Make what the store lacks of the bodies' images; a second call finds them and is quick."""
    from twin.bodies import debian, lambda_runtime, postgres_image
    from twin.bodies.podman import Podman, PodmanError

    settings.state.mkdir(parents=True, exist_ok=True)
    podman = Podman(settings)
    try:
        debian.build(podman, settings.state / "debian.log")
        postgres_image.build(podman)
        lambda_runtime.build(podman)
    except (PodmanError, OSError) as error:
        print(f"twin: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
