"""VPCs as network namespaces.

A VPC is a namespace that routes; a subnet is a bridge in it, whose address is the subnet's first (AWS reserves it for
the VPC router: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html); a network interface is a namespace
of its own, joined to its subnet's bridge, which outlives the restarts of the container that uses it. Two VPCs, or two
twins, may use the same addresses. One point-to-point link joins a VPC to the host, which is its internet.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import subprocess
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from twin.bodies import netns
from twin.bodies.firewall import UPLINK
from twin.settings import API_ADDRESS, DNS_ADDRESS, MAIL_ADDRESS, METADATA_ADDRESS, Settings

log = logging.getLogger(__name__)

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# Packets between two ports of one bridge pass the rules of the namespace too. Absent where br_netfilter is not loaded.
_FILTER_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def bridge_of(subnet_id: str) -> str:
    return f"br-{subnet_id[-8:]}"


def router_of(subnet_id: str) -> str:
    """The hardware address of a subnet's router.

    A bridge without one of its own takes its ports' lowest: whenever an instance comes or goes, all others may lose their
    router until they ask for it again, half a minute later.
    """
    return "02:" + ":".join(f"{byte:02x}" for byte in hashlib.sha256(subnet_id.encode()).digest()[:5])


class Network:
    """All of a twin's networks. `on_vpc(vpc_id, namespace)` opens a new VPC's listeners, `off_vpc(vpc_id)` closes them.

    `rules_of_new_vpcs` is the nftables ruleset that an EC2 VPC starts with; empty, it starts open.
    """

    def __init__(self, settings: Settings, on_vpc: Callable[[str, str], None], off_vpc: Callable[[str], None]) -> None:
        self.settings = settings
        self.on_vpc = on_vpc
        self.off_vpc = off_vpc
        self.table = f"twin_{settings.slot}"
        self.rules_of_new_vpcs = ""
        self._lock = threading.RLock()
        self._links: dict[str, int] = {}
        self._bridges: set[tuple[str, str]] = set()
        self._published: dict[str, tuple[str, str]] = {}
        self._forward_mark = settings.state / "enabled-ip-forward"

    def namespace(self, resource_id: str) -> str:
        return f"{self.settings.name}.{resource_id}"

    def open(self) -> None:
        """Prepare the host: forwarding, and one nftables table that carries public addresses and masquerades."""
        if _FORWARD.read_text().strip() == "0":
            self._forward_mark.touch()
            _FORWARD.write_text("1")
        if netns.nft_json(f"list table ip {self.table}") is not None:
            return  # a killed twin's, whose connections go on
        netns.nft(f"""
            table ip {self.table} {{
              map public {{
                type ipv4_addr : ipv4_addr
              }}
              chain output {{
                type nat hook output priority -100
                dnat to ip daddr map @public
              }}
              chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {self.settings.backbone} masquerade
                ip saddr 127.0.0.0/8 oifname "ek{self.settings.slot}-*" masquerade
              }}
            }}
        """)

    def ensure_vpc(self, vpc_id: str) -> str:
        """Make the VPC's namespace unless it is there; returns its name."""
        name = self.namespace(vpc_id)
        with self._lock:
            if vpc_id in self._links:
                return name
            number = next(n for n in range(8192) if n not in self._links.values())
            link = f"ek{self.settings.slot}-{number}"
            near, far = list(ipaddress.IPv4Network((int(self.settings.backbone.network_address) + 4 * number, 30)).hosts())
            netns.ip(
                f"""
                netns add {name}
                link add {link} type veth peer name uplink netns {name}
                addr add {near}/30 dev {link}
                link set {link} up
                """
            )
            # Needed to carry connections from the host's loopback addresses into the VPC; on this one link only.
            Path(f"/proc/sys/net/ipv4/conf/{link}/route_localnet").write_text("1")
            services = "\n".join(
                f"addr add {address}/32 dev lo" for address in (METADATA_ADDRESS, DNS_ADDRESS, API_ADDRESS, MAIL_ADDRESS)
            )
            netns.ip(
                f"link set lo up\n{services}\naddr add {far}/30 dev uplink\nlink set uplink up\nroute add default via {near}",
                name,
            )
            netns.inside(name, _prepare)
            if vpc_id.startswith("vpc-") and self.rules_of_new_vpcs:
                netns.nft(self.rules_of_new_vpcs, name)
            netns.nft(
                """
                table ip vpc {
                  map public {
                    type ipv4_addr : ipv4_addr
                  }
                  chain prerouting {
                    type nat hook prerouting priority dstnat
                    iifname "uplink" dnat to ip daddr map @public
                  }
                  chain postrouting {
                    type nat hook postrouting priority srcnat
                    oifname "uplink" masquerade
                  }
                }
                """,
                name,
            )
            self._links[vpc_id] = number
        self.on_vpc(vpc_id, name)
        return name

    def remove_vpc(self, vpc_id: str) -> None:
        """Remove the VPC's namespace with all that is in it."""
        with self._lock:
            if vpc_id in self._links:
                self.off_vpc(vpc_id)
                netns.delete(self.namespace(vpc_id))
                del self._links[vpc_id]

    def remove_subnet(self, vpc_id: str, subnet_id: str) -> None:
        with self._lock:
            if (vpc_id, bridge_of(subnet_id)) in self._bridges:
                netns.ip(f"link delete {bridge_of(subnet_id)}", self.namespace(vpc_id))
                self._bridges.discard((vpc_id, bridge_of(subnet_id)))

    def ensure_subnet(self, vpc_id: str, subnet_id: str, cidr: str) -> str:
        """Make the subnet's bridge unless it is there; returns the bridge's name."""
        name = self.ensure_vpc(vpc_id)
        bridge = bridge_of(subnet_id)
        with self._lock:
            if (vpc_id, bridge) not in self._bridges:
                block = ipaddress.IPv4Network(cidr)
                netns.ip(
                    f"link add {bridge} address {router_of(subnet_id)} type bridge\n"
                    f"addr add {block[1]}/{block.prefixlen} dev {bridge}\nlink set {bridge} up",
                    name,
                )
                self._bridges.add((vpc_id, bridge))
        return bridge

    def attach(self, resource_id: str, vpc_id: str, subnet_id: str, cidr: str, address: str) -> Path:
        """Give `resource_id` an interface with `address` in the subnet; returns the path of its namespace.

        One that is there already stays as it is, with the connections that use it.
        """
        bridge = self.ensure_subnet(vpc_id, subnet_id, cidr)
        name, vpc = self.namespace(resource_id), self.namespace(vpc_id)
        block = ipaddress.IPv4Network(cidr)
        peer = f"v-{resource_id[-10:]}"
        with self._lock:
            if self._attached(name, vpc, bridge, peer, f"{address}/{block.prefixlen}"):
                return netns.path(name)
            self.detach(resource_id)
            netns.ip(f"netns add {name}")
            netns.ip(f"link add {peer} type veth peer name eth0 netns {name}\nlink set {peer} master {bridge} up", vpc)
            netns.ip(f"link set lo up\naddr add {address}/{block.prefixlen} dev eth0\nlink set eth0 up", name)
            netns.ip(f"route add default via {block[1]}", name)
        return netns.path(name)

    @staticmethod
    def _attached(name: str, vpc: str, bridge: str, peer: str, address: str) -> bool:
        if not netns.path(name).exists():
            return False
        addresses = netns.ip_json("addr show dev eth0", name)
        ports = netns.ip_json(f"link show dev {peer}", vpc)
        return bool(
            ports
            and ports[0].get("master") == bridge
            and addresses
            and address in [f"{one['local']}/{one['prefixlen']}" for one in addresses[0]["addr_info"]]
        )

    def detach(self, resource_id: str) -> None:
        """Remove the interface. Its link goes at once with the namespace."""
        name = self.namespace(resource_id)
        if netns.path(name).exists():
            subprocess.run(["ip", "-netns", name, "link", "delete", "eth0"], capture_output=True, check=False)
            netns.delete(name)

    def publish(self, public: str, vpc_id: str, private: str) -> None:
        """Carry connections from the host to `public` on to `private` in the VPC."""
        carried = self.settings.backbone_address(public)
        with self._lock:
            if self._published.get(public) == (vpc_id, private):
                return
            self.unpublish(public)
            link = f"ek{self.settings.slot}-{self._links[vpc_id]}"
            netns.nft(f"add element ip vpc public {{ {carried} : {private} }}", self.namespace(vpc_id))
            netns.ip(f"route replace {carried}/32 dev {link} via {self._far(vpc_id)}")
            netns.nft(f"add element ip {self.table} public {{ {public} : {carried} }}")
            self._published[public] = (vpc_id, private)

    def unpublish(self, public: str) -> None:
        """Stop carrying connections to `public`; one that is not carried is no error."""
        with self._lock:
            if public not in self._published:
                return
            vpc_id, private = self._published.pop(public)
            carried = self.settings.backbone_address(public)
            netns.nft(f"delete element ip {self.table} public {{ {public} : {carried} }}")
            netns.ip(f"route delete {carried}/32")
            netns.nft(f"delete element ip vpc public {{ {carried} : {private} }}", self.namespace(vpc_id))

    def vpcs(self) -> list[str]:
        """Ids of the VPCs that have a namespace."""
        with self._lock:
            return list(self._links)

    def apply(self, vpc_id: str, ruleset: str) -> None:
        """Apply an nftables ruleset in the VPC's namespace, in one transaction; a VPC that has just gone is no error."""
        with self._lock:
            if vpc_id in self._links:
                netns.nft(ruleset, self.namespace(vpc_id))

    def adopt(self, vpc_ids: Collection[str]) -> None:
        """Take over what a killed twin left behind, instead of `close`; call `open` before. Connections go on.

        `vpc_ids` are the VPCs on record; namespaces of others, and those that are not whole, go. Listeners open again.
        """
        prefix = f"{self.settings.name}."
        with self._lock:
            for name in netns.listing():
                vpc_id = name.removeprefix(prefix)
                uplink = netns.ip_json(f"addr show dev {UPLINK}", name) if name.startswith(prefix) else None
                if not uplink:
                    continue
                public = netns.nft_json("list map ip vpc public", name)
                addresses = uplink[0].get("addr_info")
                if not addresses or public is None or (vpc_id.startswith("vpc-") and vpc_id not in vpc_ids):
                    log.warning("%s: not on record, or not whole; removed", name)
                    netns.delete(name)
                    continue
                far = ipaddress.IPv4Address(addresses[0]["local"])
                self._links[vpc_id] = (int(far) - int(self.settings.backbone.network_address)) // 4
                for bridge in netns.ip_json("link show type bridge", name) or []:
                    self._bridges.add((vpc_id, bridge["ifname"]))
                self._adopt_published(vpc_id, dict(netns.elements(public)))
            vpcs = list(self._links)
        for vpc_id in vpcs:
            self.on_vpc(vpc_id, self.namespace(vpc_id))

    def _adopt_published(self, vpc_id: str, privates: dict[str, str]) -> None:
        """An address counts as published when all three steps of `publish` were taken; the last one is the host's."""
        carried = dict(netns.elements(netns.nft_json(f"list map ip {self.table} public") or []))
        for public, address in carried.items():
            if address in privates:
                self._published[public] = (vpc_id, privates[address])

    def _far(self, vpc_id: str) -> str:
        return str(self.settings.backbone[4 * self._links[vpc_id] + 2])

    def close(self) -> None:
        """Remove every namespace, link, route and rule of this twin, whether this process made them or one before it."""
        for name in netns.listing():
            if name.startswith(f"{self.settings.name}."):
                netns.delete(name)
        done = subprocess.run(["ip", "-brief", "link", "show", "type", "veth"], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            link = line.split("@")[0].split()[0]
            if link.startswith(f"ek{self.settings.slot}-"):
                subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
        subprocess.run(["nft", "delete", "table", "ip", self.table], capture_output=True, check=False)
        self._links.clear()
        self._bridges.clear()
        self._published.clear()
        if self._forward_mark.exists():
            others = subprocess.run(["nft", "list", "tables", "ip"], capture_output=True, text=True, check=False).stdout
            if "twin_" not in others:
                _FORWARD.write_text("0")
            self._forward_mark.unlink()


def _prepare() -> None:
    """Let a VPC's namespace, which the caller is in, route; and filter what passes within its bridges."""
    _FORWARD.write_text("1")
    if not _FILTER_BRIDGES.exists():
        raise OSError("security groups need the kernel's br_netfilter: run `modprobe br_netfilter`")
    _FILTER_BRIDGES.write_text("1")
