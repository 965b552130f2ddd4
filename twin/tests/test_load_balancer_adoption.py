"""A twin that was killed finds its load balancers again: HAProxy goes on as it runs, and no target's health is lost."""

from __future__ import annotations

import http.client
import pickle
import threading

from balancing import PORT, World, ask
from common import client, until

from twin.bodies.certificates import Authority
from twin.bodies.haproxy_process import end_all
from twin.control.loadbalancers import LoadBalancers

pytest_plugins = ["balancing_fixtures"]


def forget(world: World) -> None:
    """What a kill -9 does to the loop: it is gone, HAProxy and the records are there."""
    world.loop.end()
    world.loop.join(30)
    world.loop = LoadBalancers(world.region)
    world.region.loops["LoadBalancers"] = world.loop


def test_haproxy_goes_on_without_a_restart(world: World) -> None:
    here, _ = world.healthy_target()
    there, failing = world.healthy_target()
    failing.health = 503
    until(lambda: world.state(there) == "unhealthy")
    draining, _ = world.healthy_target()
    world.elbv2.deregister_targets(TargetGroupArn=world.group, Targets=[{"Id": draining}])
    until(lambda: "drain" in world.server_states(draining))
    master, worker = world.haproxy._master, world.worker()
    assert master is not None
    kept = world.connection()
    assert ask(kept)[0] == 200
    statuses: list[int] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            try:
                statuses.append(world.get()[0])
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    states: set[tuple[str, str]] = set()
    forget(world)
    states |= {(instance, world.state(instance)) for instance in (here, there, draining)}
    world.loop.adopt()
    states |= {(instance, world.state(instance)) for instance in (here, there, draining)}
    for _ in range(3):
        world.loop.tick()
        states |= {(instance, world.state(instance)) for instance in (here, there, draining)}
    assert states == {(here, "healthy"), (there, "unhealthy"), (draining, "draining")}
    assert world.haproxy._master is not master
    assert world.haproxy._master is not None
    assert world.haproxy._master.pid == master.pid
    assert world.worker() == worker, "what the records say is what it serves: no reload"
    assert ask(kept)[0] == 200
    ended.set()
    thread.join()
    assert failures == []
    assert set(statuses) == {200}
    world.run()
    served = world.haproxy.served
    world.balancer_attributes(idle_timeout__timeout_seconds="61")
    world.wait_for_reload(served)
    assert world.worker() != worker
    assert world.get()[0] == 200
    world.elbv2.delete_load_balancer(LoadBalancerArn=world.balancer)
    until(lambda: not world.loop.bodies)
    assert not master.alive


def test_haproxy_that_died_too_starts_with_what_was_known(world: World) -> None:
    instance, target = world.healthy_target()
    record = world.region.backend("elbv2").target_groups[world.group]
    record.health_check_interval_seconds = 60
    until(lambda: world.haproxy.served.backends[0].check.interval == 60)
    folder = world.haproxy.folder
    forget(world)
    end_all(folder)
    world.loop.adopt()
    assert world.loop.bodies == {}
    assert world.state(instance) == "healthy"
    target.health = 503  # the first check comes at once
    world.loop.tick()
    assert world.get()[0] == 200
    assert world.state(instance) == "healthy", "one failed check is not enough"


def test_configuration_that_is_not_the_records_is_replaced(world: World) -> None:
    world.healthy_target()
    worker = world.worker()
    forget(world)
    (world.loop._body(world.vpc).folder / "served").unlink()
    world.listen(PORT + 1)
    world.loop.adopt()
    world.loop.tick()
    assert world.balancer_state() == {"Code": "active"}
    assert world.worker() != worker
    assert world.get()[0] == 200


def test_records_survive_pickling(world: World) -> None:
    world.healthy_target()
    acm = client("acm")
    own = Authority.create("Own")
    certificate, key = own.issue(["pickled.test"])
    arn = acm.import_certificate(Certificate=certificate, PrivateKey=key)["CertificateArn"]
    with world.region.records():
        bundle = world.region.backend("acm")._certificates[arn]
        again = pickle.loads(pickle.dumps(bundle))  # noqa: S301
        assert (again.cert, again.key, again.common_name) == (bundle.cert, bundle.key, "pickled.test")
        assert again.describe() == bundle.describe()
        balancer = world.region.backend("elbv2").load_balancers[world.balancer]
        group = world.region.backend("elbv2").target_groups[world.group]
        for record, names in ((group, ("targets", "target_verdicts", "attributes")), (balancer, ("attrs", "dns_name"))):
            copy = pickle.loads(pickle.dumps({name: vars(record)[name] for name in names}))  # noqa: S301
            assert copy == {name: vars(record)[name] for name in names}
