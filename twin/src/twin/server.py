"""The twin's process: moto's API and the small servers around it, the control loops, and an orderly end."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

# moto reads its settings when it is imported.
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_ENABLE_KEYPAIR_VALIDATION", "false")

from dnslib.server import DNSLogger, DNSServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from twin import parts, web
from twin.access import edge
from twin.bodies import haproxy, netns
from twin.bodies.mail import MailSink
from twin.bodies.metadata import Metadata
from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.region import base, operator, vpc_endpoints
from twin.region.images import ImageCatalog
from twin.region.keeper import Keeper
from twin.region.region import CALLER, Region
from twin.settings import API_ADDRESS, API_PORT, DNS_ADDRESS, MAIL_ADDRESS, MAIL_PORT, METADATA_ADDRESS, Settings

log = logging.getLogger(__name__)

# Answers once the twin serves, whatever else it does.
READY_PATH = "/_twin/ready"

# A request waits this long for the region to be ready.
_READY_SECONDS = 120.0


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
        self._ready = threading.Event()
        self.keeper = Keeper(self.region, settings.state / "records")
        self._moto: web.WsgiApp = DomainDispatcherApplication(create_backend_app)

    def api(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The region's API as a WSGI application."""
        # From inside a VPC, the API can be reached before all bodies of a killed twin are found.
        self._ready.wait(_READY_SECONDS)
        if environ.get("PATH_INFO") == READY_PATH:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [self.settings.name.encode()]
        # The gates first: they know how long a body may be, and read it without the lock.
        refuse = _first(self.region.gates, environ)
        if refuse is not None:
            return edge.guarded(refuse, environ, start_response)
        body = _read(environ)
        route = _first(self.region.routes, environ)
        lock = self.region.lock if route is None else nullcontext()
        CALLER.set(getattr(environ.get("twin.principal"), "role_arn", ""))  # this thread serves one request
        return self.keeper.carry_out(edge.Guarded(route or self._moto), environ, start_response, body, lock)

    def _repeat(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Carry out a request that was let in before."""
        app = _first(self.region.routes, environ) or self._moto
        return edge.guarded(app, environ, start_response)

    def start(self) -> None:
        """Bring everything up; raises OSError with a message a person can act on: AddressTaken before anything is touched.

        A twin that was killed is gone on with: its records are restored, its bodies found. Otherwise the region is empty but
        for its images.
        """
        for port in (API_PORT, MAIL_PORT):
            _check(self.settings.address, port)
        self.settings.state.mkdir(parents=True, exist_ok=True)
        self.podman.configure()
        parts.extend(self.region)
        catalog = ImageCatalog(self.region, self.settings.state / "images.json")
        self.mail = MailSink(self.settings.state / "mail")
        loops = parts.loops(self.region, catalog)
        self.region.loops = {loop.name: loop for loop in loops}
        resumed = self.keeper.restore()
        if not resumed:
            self.clear()
        self.network.open()
        if resumed:
            self.podman.settle()
            self.keeper.repeat(self._repeat)
            with self.region.records():
                vpcs = set(self.region.ec2.vpcs)
            self.network.adopt(vpcs)
        with self.region.records():
            if not resumed:
                base.register(self.region)
                operator.create(self.region)
            catalog.load()
        self._serve(self.settings.address, MAIL_PORT, self.mail)
        if resumed:
            for loop in loops:
                loop.adopt()
        self.keeper.start()
        self._ready.set()
        self._serve(self.settings.address, API_PORT, self.api)
        for loop in loops:
            loop.start()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then take everything down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        # In turns: a signal that the kernel hands to another thread does not end this thread's wait.
        while not self._stop.wait(1):
            pass
        self.stop()

    def stop(self) -> None:
        """End the loops, the servers, and every body."""
        self.keeper.end()
        for loop in self.region.loops.values():
            loop.end()
        for loop in self.region.loops.values():
            loop.join(timeout=30)
        for vpc_id in list(self._vpc_servers):
            self._close_vpc(vpc_id)
        _shut(self._servers)
        self.clear()

    def clear(self) -> None:
        """Remove every body, network and process of this twin, whoever started it, and its records. What the API must find
        again stays: the images, and their catalog."""
        self.keeper.remove()
        haproxy.kill_left_behind(self.settings)
        for name in self.podman.containers():
            self.podman.remove(name)
        self.network.close()
        shutil.rmtree(self.settings.state / "volumes", ignore_errors=True)
        self.podman.leave()

    def _serve(self, address: str, port: int, app: web.WsgiApp) -> None:
        self._servers.append(_serving(_web(address, port, app)))

    def _open_vpc(self, vpc_id: str, namespace: str) -> None:
        """Open in a VPC the services that AWS offers there at link-local addresses."""
        apps: dict[str, web.WsgiApp] = {
            METADATA_ADDRESS: Metadata(self.region, vpc_id),
            API_ADDRESS: lambda environ, start_response: self.api({**environ, vpc_endpoints.VPC_KEY: vpc_id}, start_response),
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
        self.region.kept.get("metadata", {}).pop(vpc_id, None)


def _read(environ: dict[str, Any]) -> bytes:
    """Take in the request's body, however it is sent, and leave it to be read again: nobody waits for a slow client with the
    lock held."""
    source = environ["wsgi.input"]
    if environ.pop("wsgi.input_terminated", False):
        body: bytes = source.read()
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    else:
        body = source.read(int(environ.get("CONTENT_LENGTH") or 0))
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _first(routes: list[Callable[[dict[str, Any]], Any | None]], environ: dict[str, Any]) -> Any | None:
    """The application of the first that takes the request."""
    return next((app for route in routes if (app := route(environ)) is not None), None)


class AddressTaken(OSError):
    """Another process listens where the twin should."""


def _check(address: str, port: int) -> None:
    """Raises AddressTaken with words for the person who must free the port."""
    try:
        socket.create_server((address, port)).close()
    except OSError as error:
        raise AddressTaken(
            f"{address}:{port}: {os.strerror(error.errno or 0)}. `ss -ltnp` shows who listens there; end it, or use another slot"
        ) from None


def _web(address: str, port: int, app: web.WsgiApp) -> Any:
    """A threaded HTTP server that listens already."""
    # Bound here, since werkzeug ends the process when it can't bind.
    with socket.create_server((address, port), backlog=128) as bound:
        return web.Server(address, port, app, bound.fileno())


def _serving(server: Any) -> Any:
    """Start a socketserver in a thread of its own, and return it."""
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name=str(server.server_address), daemon=True).start()
    return server


def _shut(servers: list[Any]) -> None:
    for server in servers:
        server.shutdown()
        server.server_close()
