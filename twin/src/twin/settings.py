"""What distinguishes one twin from another on the same machine."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

API_PORT = 4566
MAIL_PORT = 8025
# Inside a VPC, services answer at link-local addresses, as AWS's own metadata, DNS and time services do.
# The first two are AWS's; the others are outside AWS's reserved 169.254.169.0/24.
METADATA_ADDRESS = "169.254.169.254"
DNS_ADDRESS = "169.254.169.253"
API_ADDRESS = "169.254.171.1"
MAIL_ADDRESS = "169.254.171.2"


@dataclass(frozen=True)
class Settings:
    """One twin: a name, a slot of addresses, and the folders it keeps its state in.

    `slot` (64 to 127) gives the twin loopback addresses 127.SLOT.0.0/16 for what the world may reach and the backbone
    100.SLOT.0.0/16 (RFC 6598 space) between the host and its VPCs, so that twins never collide.
    """

    state: Path
    store: Path
    name: str = "evenkeel"
    slot: int = 77
    region: str = "us-east-1"
    account_id: str = "123456789012"
    # Lambda waits one minute before the second attempt and two before the third. Nobody wants to wait for them here.
    retry_scale: float = 0.05
    log_level: str = field(default="INFO", compare=False)

    def __post_init__(self) -> None:
        # podman takes one store under two spellings for two: let there be one spelling.
        object.__setattr__(self, "state", self.state.resolve())
        object.__setattr__(self, "store", self.store.resolve())
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", self.name):
            raise ValueError(f"twin name {self.name!r}: use a letter, then up to 19 of a-z, 0-9 and '-'")
        if not 0 < self.retry_scale <= 1:
            raise ValueError(f"retry scale {self.retry_scale}: choose a number above 0, up to 1")
        if not 64 <= self.slot <= 127:
            raise ValueError(f"twin slot {self.slot}: choose 64 to 127")

    @property
    def address(self) -> str:
        """Loopback address of the API and the mail sink."""
        return f"127.{self.slot}.0.1"

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.address}:{API_PORT}"

    @property
    def mail_url(self) -> str:
        return f"http://{self.address}:{MAIL_PORT}"

    @property
    def load_balancer_addresses(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"127.{self.slot}.1.0/24")

    @property
    def public_addresses(self) -> ipaddress.IPv4Network:
        """Public addresses of instances and Elastic IPs: 127.SLOT.128.0/17."""
        return ipaddress.IPv4Network(f"127.{self.slot}.128.0/17")

    @property
    def backbone(self) -> ipaddress.IPv4Network:
        """Point-to-point links between host and VPCs, a /30 each: 100.SLOT.0.0/17."""
        return ipaddress.IPv4Network(f"100.{self.slot}.0.0/17")

    def backbone_address(self, public: str) -> str:
        """The backbone address that a public address is carried on (loopback addresses can't leave the host)."""
        return "100." + public.split(".", 1)[1]

    @property
    def runroot(self) -> Path:
        """podman's volatile folder; one per image store, short because podman allows it 50 characters."""
        return Path("/run") / f"twin-{hashlib.sha256(str(self.store).encode()).hexdigest()[:10]}"
