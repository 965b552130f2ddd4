"""`signup-schema`: says which schema this release brings, and which older releases still run on it. Asks no database."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from signup.schema.revisions import MigrationError, release_schema


def main() -> None:
    """Console script: one line of JSON with `head` and `floor`; ends with 1 where a migration doesn't keep the rules."""
    try:
        print(json.dumps(asdict(release_schema())))
    except MigrationError as error:
        print(f"signup-schema: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
