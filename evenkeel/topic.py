"""A topic that takes every message and keeps none: as much of SNS's API as the outbox's publisher asks for.

The benchmark of the service alone publishes to it. On AWS the topic's work is done elsewhere; here it would share the
service's cores, so it must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ID = re.compile(rb"PublishBatchRequestEntries\.member\.\d+\.Id=([\w-]+)")
_MEMBER = b"<member><Id>%b</Id><MessageId>00000000-0000-0000-0000-000000000000</MessageId></member>"
_BODY = (
    b'<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>'
    b"<Successful>%b</Successful><Failed/></PublishBatchResult></PublishBatchResponse>"
)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b"


class Topic:
    """`taken` counts the messages."""

    def __init__(self) -> None:
        self.taken = 0
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                ids = _ID.findall(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0])))
                self.taken += len(ids)
                body = _BODY % b"".join(_MEMBER % each for each in ids)
                writer.write(_ANSWER % (len(body), body))
        except (EOFError, OSError):
            writer.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen on a loopback port, which `url` names, in a thread of its own."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
