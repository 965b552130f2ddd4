"""The twin's process: moto's API and the small servers around it, the control loops, and an orderly end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

# moto reads its settings when it is imported.
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_ENABLE_KEYPAIR_VALIDATION", "false")

from dnslib.server import DNSLogger, DNSServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from twin.bodies import haproxy, netns
from twin.bodies.mail import MailSink
from twin.bodies.metadata import Metadata
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.autoscaling import AutoScaling
from twin.control.databases import Databases
from twin.control.functions import Functions
from twin.control.instances import Instances
from twin.control.loadbalancers import LoadBalancers
from twin.region import autoscaling, awslambda, base, ec2, elbv2, launch_templates, operator, rds, security_groups, speed
from twin.region.images import ImageCatalog
from twin.region.region import Region
from twin.settings import API_ADDRESS, API_PORT, DNS_ADDRESS, MAIL_ADDRESS, MAIL_PORT, METADATA_ADDRESS, Settings

log = logging.getLogger(__name__)

# Answers once the twin serves, whatever else it does.
READY_PATH = "/_twin/ready"
EXTENSIONS = (ec2, launch_templates, security_groups, autoscaling, elbv2, rds, awslambda, speed)

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class QuietHandler(MotoRequestHandler):
    """Logs a request at debug level, without the query string."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        log.debug("%s %s %s -> %s", self.address_string(), self.command, self.path.split("?")[0], code)


class SilentDNS(DNSLogger):  # type: ignore[misc]  # dnslib has no types
    def __init__(self) -> None:
        super().__init__("-request,-reply,-truncated,-error,-recv,-send,-data")


class Twin:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.podman = Podman(settings)
        self.region = Region(settings, self.podman)
        self.region.network = self.network = Network(settings, self._open_vpc, self._close_vpc)
        self._servers: list[Any] = []
        self._vpc_servers: dict[str, list[Any]] = {}
        self._stop = threading.Event()
        moto = DomainDispatcherApplication(create_backend_app)

        def api(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if environ.get("PATH_INFO") == READY_PATH:
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [self.settings.name.encode()]
            for route in (*self.region.gates, *self.region.routes):
                app = route(environ)
                if app is not None:
                    answer: Iterable[bytes] = app(environ, start_response)
                    return answer
            with self.region.lock:
                return list(moto(environ, start_response))

        self.api: WsgiApp = api

    def start(self) -> None:
        """Bring everything up; raises OSError with a message a person can act on when an address is taken."""
        self.settings.state.mkdir(parents=True, exist_ok=True)
        self.podman.configure()
        self.clear()  # what a killed twin left behind
        self.network.open()
        for extension in EXTENSIONS:
            extension.install(self.region)
        catalog = ImageCatalog(self.region, self.settings.state / "images.json")
        with self.region.records():
            base.register(self.region)
            catalog.load()
            operator.create(self.region)
        self.mail = MailSink(self.settings.state / "mail")
        self._serve(self.settings.address, API_PORT, self.api)
        self._serve(self.settings.address, MAIL_PORT, self.mail)
        loops = (
            Instances(self.region, catalog),
            AutoScaling(self.region),
            LoadBalancers(self.region),
            Databases(self.region),
            Functions(self.region),
        )
        for loop in loops:
            self.region.loops[loop.name] = loop
            loop.start()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then take everything down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._stop.wait()
        self.stop()

    def stop(self) -> None:
        """End the loops, the servers, and every body."""
        for loop in self.region.loops.values():
            loop.end()
        for loop in self.region.loops.values():
            loop.join(timeout=30)
        for vpc_id in list(self._vpc_servers):
            self._close_vpc(vpc_id)
        _shut(self._servers)
        self.clear()

    def clear(self) -> None:
        """Remove every body, network and process of this twin, whoever started it. What the API must find again stays:
        the images, and their catalog."""
        haproxy.kill_left_behind(self.settings)
        for name in self.podman.containers():
            self.podman.remove(name)
        self.network.close()
        shutil.rmtree(self.settings.state / "volumes", ignore_errors=True)
        self.podman.leave()

    def _serve(self, address: str, port: int, app: WsgiApp) -> None:
        self._servers.append(_serving(_web(address, port, app)))

    def _open_vpc(self, vpc_id: str, namespace: str) -> None:
        """Open in a VPC the services that AWS offers there at link-local addresses."""
        apps: dict[str, WsgiApp] = {
            METADATA_ADDRESS: Metadata(self.region, vpc_id),
            API_ADDRESS: self.api,
            MAIL_ADDRESS: self.mail,
        }

        def bind() -> list[Any]:
            web = [_web(address, 80, app) for address, app in apps.items()]
            names = [
                DNSServer(self.region.names, address=DNS_ADDRESS, tcp=tcp, logger=SilentDNS()).server for tcp in (False, True)
            ]
            return [*web, *names]

        self._vpc_servers[vpc_id] = [_serving(server) for server in netns.inside(namespace, bind)]

    def _close_vpc(self, vpc_id: str) -> None:
        _shut(self._vpc_servers.pop(vpc_id, []))


def _web(address: str, port: int, app: WsgiApp) -> Any:
    """A threaded HTTP server that listens already; raises OSError with words for the person who must free the port."""
    try:
        # Bound here, since werkzeug ends the process when it can't bind.
        with socket.create_server((address, port), backlog=128) as bound:
            return make_server(address, port, app, threaded=True, request_handler=QuietHandler, fd=bound.fileno())
    except OSError as error:
        raise OSError(
            f"{address}:{port}: {os.strerror(error.errno or 0)}. `ss -ltnp` shows who listens there; end it, or use another slot"
        ) from None


def _serving(server: Any) -> Any:
    """Start a socketserver in a thread of its own, and return it."""
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name=str(server.server_address), daemon=True).start()
    return server


def _shut(servers: list[Any]) -> None:
    for server in servers:
        server.shutdown()
        server.server_close()
