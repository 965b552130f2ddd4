"""The service keeps the contract that it publishes, whatever is sent: Schemathesis against gunicorn and a real database.

SIGNUP_FUZZ_CASES asks for more than the short run's; `make fuzz` does, with cases that differ every time.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from serving import Log, Publish, Serve, environment
from sqlalchemy import Engine, text

from signup.web.static_files import FILES

HERE = Path(__file__).parent
SHORT = 150
CASES = int(os.environ.get("SIGNUP_FUZZ_CASES", SHORT))
# Examples of an operation by its tag, as shares: what takes input is worth more than what takes none.
SHARES = {"Users": 12, "Pictures": 8, "Verification": 12, "Mail": 3, "Pages": 6, "Health": 1, "Reference": 1}
METHODS = ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"]
# What is shorter, or says little, may be part of anything, such as a request's id.
SECRET_LENGTH, SECRET_LETTERS = 15, 8

# Whose password fuzzing changes still has it, so that the next request can sign in.
KEEP_PASSWORD = """
    CREATE OR REPLACE FUNCTION keep_password() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.password_hash := OLD.password_hash; RETURN NEW; END $$;
    CREATE TRIGGER keep_password BEFORE UPDATE ON users FOR EACH ROW WHEN (OLD.verified) EXECUTE FUNCTION keep_password();
"""


def configuration(document: dict, person: dict[str, str], token: str) -> str:  # type: ignore[type-arg]
    """Schemathesis's, in TOML, of which JSON's texts, lists and numbers are part."""
    shares = [SHARES[each["tags"][0]] for methods in document["paths"].values() for each in methods.values()]
    # Not every example that is asked for can be found, of what has few forms.
    each = 1.1 * CASES / sum(shares)
    operations = "".join(
        f"[[operations]]\ninclude-tag = {json.dumps(tag)}\ngeneration.max-examples = {max(2, round(each * share))}\n"
        for tag, share in SHARES.items()
    )
    return f"""
hooks = "fuzz_hooks"
workers = 1
continue-on-failure = true
request-timeout = 30
warnings = false

[auth.openapi.basic]
username = {json.dumps(person["email"])}
password = {json.dumps(person["password"])}

[generation]
deterministic = {json.dumps(CASES <= SHORT)}
database = "none"

[phases.coverage]
unexpected-methods = {json.dumps(METHODS)}

[phases.stateful.generation]
max-examples = {max(2, round(each))}

# Words of the service's own source would be found in its log.
[analysis.constants]
enabled = false

[dictionaries]
tokens.values = [{json.dumps(token)}]
files.values = {json.dumps([file.hashed for file in FILES.values()])}

[parameters]
"query.token" = {{ dictionary = "tokens", probability = 0.2 }}
"body.token" = {{ dictionary = "tokens", probability = 0.2 }}
"path.hashed" = {{ dictionary = "files", probability = 0.2 }}

[output.sanitization]
enabled = false

{operations}"""


def test_the_contract_is_kept(
    serve: Serve,
    publish: Publish,
    database: Engine,
    person: dict[str, str],
    put_token: Callable[..., str],
    tmp_path: Path,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    # With room for all that one client may ask: a 503 would be a failure like any other.
    url, process = serve(SIGNUP_MAIL_EVENTS_KEY=base64.b64encode(public).decode(), SIGNUP_HASH_QUEUE="100")
    logs = [Log(process), Log(publish())]
    user = requests.post(f"{url}/v1/user", json=person, timeout=30).json()
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET verified = true"))
        connection.execute(text(KEEP_PASSWORD))
    token = put_token(user["id"], user["id"], lives_seconds=7200)
    document = requests.get(f"{url}/openapi.json", timeout=30).json()
    (tmp_path / "schemathesis.toml").write_text(configuration(document, person, token))
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{url}/openapi.json",
                "--url",
                url,
                "--report-json-path=report.json",
            ],
            env=environment(
                FUZZ_SECRETS=str(tmp_path / "secrets"),
                FUZZ_EVENT_KEY=private,
                PYTHONPATH=os.pathsep.join([str(HERE), *sys.path]),
                # What it knows of Unicode takes seconds to make.
                HYPOTHESIS_STORAGE_DIRECTORY=str(HERE.parents[1] / ".hypothesis"),
            ),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP TRIGGER keep_password ON users"))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    cases = report["test_cases"]
    print(f"\n{cases['generated']} cases, {cases['with_failures']} with failures, in {report['running_time']:.0f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cases["generated"] >= CASES
    assert {phase: outcome["status"] for phase, outcome in report["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    # Every operation was brought to succeed, too.
    rates = report["valid_rates"]
    assert len(rates) == sum(map(len, document["paths"].values()))
    assert [name for name, phases in rates.items() if not any(rate["accepted"] for rate in phases.values())] == []

    lines = [line for log in logs for line in log.ended()]
    answered = [line for line in map(json.loads, lines) if line["message"] == "request"]
    assert len(answered) > CASES / 2
    assert [line for line in answered if line["status"] >= 500] == []
    said = "".join(lines)
    assert "@" not in said
    secrets = {json.loads(line) for line in (tmp_path / "secrets").read_text().splitlines()}
    assert {person["email"], person["password"], token} <= secrets
    forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1], quote(secret), quote_plus(secret))}
    telling = [form for form in forms if len(form) >= SECRET_LENGTH and len(set(form)) >= SECRET_LETTERS]
    assert len(telling) > CASES / 10
    assert [form for form in telling if form in said] == []
