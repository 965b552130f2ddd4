"""The VPC's resolver (169.254.169.253): the region's own names first, then the host's resolvers.

https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler

TTL_SECONDS = 5  # as short as RDS's own records, so that a failover is seen at once


class Names(BaseResolver):  # type: ignore[misc]  # dnslib has no types
    """Address records of the region, changed while it runs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._addresses: dict[str, str] = {}
        self._upstream = [
            words[1]
            for words in map(str.split, Path("/etc/resolv.conf").read_text().splitlines())
            if len(words) > 1 and words[0] == "nameserver"
        ]

    def set(self, name: str, address: str) -> None:
        with self._lock:
            self._addresses[name.rstrip(".").lower()] = address

    def remove(self, name: str) -> None:
        with self._lock:
            self._addresses.pop(name.rstrip(".").lower(), None)

    def addresses(self) -> dict[str, str]:
        """All of the region's names."""
        with self._lock:
            return dict(self._addresses)

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        name = str(request.q.qname).rstrip(".").lower()
        with self._lock:
            address = self._addresses.get(name)
        reply = request.reply()
        if address:
            if request.q.qtype in (QTYPE.A, QTYPE.ANY):
                reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=TTL_SECONDS, rdata=A(address)))
            return reply
        if "." not in name or name.endswith((".internal", ".amazonaws.com", ".localdomain")):
            reply.header.rcode = RCODE.NXDOMAIN
            return reply
        for server in self._upstream:
            try:
                return DNSRecord.parse(request.send(server, 53, timeout=3))
            except (TimeoutError, OSError):
                continue
        reply.header.rcode = RCODE.SERVFAIL
        return reply
