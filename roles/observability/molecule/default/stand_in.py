"""Answers as the instance's metadata and CloudWatch Logs do: there is no stream at first, and then an error."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ERRORS = ["InternalFailure", "ResourceNotFoundException"]
RECEIVED = Path("/var/tmp/received")  # noqa: S108


class Handler(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self._answer(200, "token")

    def do_GET(self) -> None:
        self._answer(200, "i-0123456789abcdef0")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["logStreamName"] != "i-0123456789abcdef0":
            self._answer(400, json.dumps({"__type": "InvalidParameterException"}))
        elif self.headers["X-Amz-Target"].endswith("PutLogEvents") and ERRORS:
            error = ERRORS.pop()
            self._answer(400 if error.startswith("Resource") else 500, json.dumps({"__type": error}))
        else:
            with RECEIVED.open("a") as file:
                file.writelines(f"{each['message']}\n" for each in body.get("logEvents", []))
            self._answer(200, "{}")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


RECEIVED.touch()
HTTPServer(("169.254.169.254", 80), Handler).serve_forever()
