"""`python stub_twin.py NAME SLOT STATE STORE`: a whole twin but for its instances' machines, which are addresses that answer.

Health checks are real, and pass: one HAProxy in the VPC answers 200 at port 8080 of every instance's address.
`GET /_test/loops` says by how many seconds each loop has been late since it was last asked, as JSON.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Response
from world import StubMachines

from twin import server
from twin.bodies import netns
from twin.bodies.machines import Machine
from twin.control.instances import Instances
from twin.region.images import ImageCatalog
from twin.region.region import Region
from twin.settings import Settings

PORT = 8080
LOOPS_PATH = "/_test/loops"
_RESPONDER = f"""\
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend all
  bind 0.0.0.0:{PORT}
  http-request return status 200 content-type text/plain string ok
"""


class AnsweringMachines(StubMachines):
    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self.machines: dict[str, Machine] = {}
        self.responders: dict[str, subprocess.Popen[bytes]] = {}

    def boot(self, machine: Machine) -> None:
        namespace = self.region.network.ensure_vpc(machine.vpc)
        netns.ip(f"addr replace {machine.address}/32 dev lo", namespace)
        with self.region.lock:
            if machine.vpc not in self.responders:
                file = self.region.settings.state / f"{machine.vpc}.cfg"
                file.write_text(_RESPONDER)
                command = ["ip", "netns", "exec", namespace, "haproxy", "-db", "-q", "-f", str(file)]
                self.responders[machine.vpc] = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.machines[machine.id] = machine
        super().boot(machine)

    def remove(self, name: str) -> None:
        machine = self.machines.pop(name, None)
        if machine:
            netns.ip(f"addr delete {machine.address}/32 dev lo", self.region.network.namespace(machine.vpc))
        super().remove(name)

    def close(self) -> None:
        for process in self.responders.values():
            process.terminate()
            process.wait(timeout=30)


class StubbedInstances(Instances):
    def __init__(self, region: Region, catalog: ImageCatalog) -> None:
        super().__init__(region, catalog, AnsweringMachines(region))  # type: ignore[arg-type]  # a stub
        self.name = "Instances"


def main(name: str, slot: str, state: str, store: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    server.parts.Instances = StubbedInstances  # type: ignore[misc]
    twin = server.Twin(Settings(state=Path(state), store=Path(store), name=name, slot=int(slot)))

    def loops(environ: dict[str, Any]) -> Any | None:
        if environ["PATH_INFO"] != LOOPS_PATH:
            return None
        found = {loop.name: {"late": loop.late(), "period": loop.period} for loop in twin.region.loops.values()}
        return Response(json.dumps(found), mimetype="application/json")

    # Before whatever asks for credentials.
    twin.region.gates.insert(0, loops)
    twin.start()
    instances: Any = twin.region.loops["Instances"]
    try:
        twin.run()
    finally:
        instances.machines.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
