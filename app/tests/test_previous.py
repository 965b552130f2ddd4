"""The previous release on the newest schema, as during a rollout and after a rollback: beside this one, on the same rows.

Its wheel is kept in `previous/`; `make previous REF=...` puts the next one in its place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from records import events
from serving import Log, Publish, Serve, environment
from sqlalchemy import Engine
from waiting import wait_for

from signup.schema.revisions import release_schema

KEPT = Path(__file__).parent / "previous"
Queue = tuple[str, Callable[[], list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the previous release's packages, for PYTHONPATH."""
    (wheel,) = KEPT.glob("*.whl")
    folder = tmp_path_factory.mktemp("previous")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return str(folder)


def output(previous: str, program: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(PYTHONPATH=previous), capture_output=True, text=True, check=True)
    return done.stdout


def test_it_is_within_what_the_newest_schema_still_serves(previous: str) -> None:
    assert output(previous, "import signup; print(signup.__file__)").startswith(previous + os.sep)
    its = json.loads(output(previous, "from signup.schema.release import main; main()"))
    ours = release_schema()
    assert ours.floor <= its["head"] <= ours.head


def test_it_serves_and_publishes_beside_this_release(
    previous: str,
    serve: Serve,
    publish: Publish,
    client: FlaskClient,
    database: Engine,
    queue: Queue,
    person: dict[str, str],
    put_token: Callable[..., str],
) -> None:
    url, process = serve(PYTHONPATH=previous)
    logs = [Log(process), Log(publish(PYTHONPATH=previous))]
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200

    # One signs up at each release, and both addresses are signed up again at the other.
    people = {release: {**person, "email": f"{release}@example.com"} for release in ("theirs", "ours")}
    asked = [requests.post(f"{url}/v1/user", json=people["theirs"], timeout=20).status_code]
    asked += [client.post("/v1/user", json=people[release]).status_code for release in ("ours", "theirs")]
    asked += [requests.post(f"{url}/v1/user", json=people["ours"], timeout=20).status_code]
    assert asked == [201] * 4

    # Every message reaches the topic by the previous publisher: the only one there is.
    wait_for("every message", lambda: len(queue[1]()) >= 4)
    messages = queue[1]()
    assert sorted(message["email"] for message in messages) == sorted([each["email"] for each in people.values()] * 2)

    # Both confirm at the previous release, and sign in at either.
    for release, given in people.items():
        message = next(message for message in messages if message["email"] == given["email"])
        token = put_token(message["user_id"], message["message_id"])
        verified = requests.post(f"{url}/v1/user/verify?token={token}", timeout=20)
        assert (verified.status_code, verified.json()["verified"]) == (200, True), release
        credentials = (given["email"], given["password"])
        assert client.get("/v1/user/self", auth=credentials).get_json() == verified.json(), release
        assert requests.get(f"{url}/v1/user/self", auth=credentials, timeout=20).json() == verified.json(), release
    assert events(database) == ["user.signed_up"] * 2 + ["user.signed_up_again"] * 2 + ["user.verified"] * 2

    said = [json.loads(line) for log in logs for line in log.ended()]
    assert [line for line in said if line["level"] in ("warning", "error")] == []
    assert [line["status"] for line in said if line.get("status", 200) >= 500] == []
