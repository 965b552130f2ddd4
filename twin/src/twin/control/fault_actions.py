"""What each action of Fault Injection Service does when it starts, while it runs, and when it ends.

https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
"""

from __future__ import annotations

import logging
from typing import Any

from moto.core.exceptions import ServiceException

from twin.bodies import power
from twin.region.ec2 import InsufficientInstanceCapacity
from twin.region.faults import CapacityFault, Faults
from twin.region.fis import Progress, seconds_of
from twin.region.region import Region

log = logging.getLogger(__name__)


class ActionFailed(Exception):
    """The action could not be carried out; the message is the reason that the experiment shows."""


def start(region: Region, action: dict[str, Any], progress: Progress) -> None:
    """Carry the action out. Raises ActionFailed. Call with the region's lock held."""
    parameters = action.get("parameters") or {}
    if "duration" in parameters:
        progress.until = progress.began + seconds_of(parameters["duration"])
    kind = action["actionId"]
    try:
        if kind == "aws:ec2:stop-instances":
            region.ec2.stop_instances(_ids(progress))
            if "startInstancesAfterDuration" in parameters:
                progress.until = progress.began + seconds_of(parameters["startInstancesAfterDuration"])
        elif kind == "aws:ec2:terminate-instances":
            region.ec2.terminate_instances(_ids(progress))
        elif kind == "aws:ec2:reboot-instances":
            region.ec2.reboot_instances(_ids(progress))
        elif kind == "aws:rds:reboot-db-instances":
            _reboot_databases(region, progress, parameters.get("forceFailover") == "true")
        elif kind == "aws:cloudwatch:assert-alarm-state":
            _assert_alarms(region, parameters)
    except ServiceException as error:
        raise ActionFailed(f"{getattr(error, 'code', 'InternalError')}: {getattr(error, 'message', error)}") from error


def done(region: Region, action: dict[str, Any], progress: Progress) -> bool:
    """Whether the action has reached its end by itself. Call with the region's lock held."""
    if progress.until is not None:
        return region.clock() >= progress.until
    kind = action["actionId"]
    if kind in ("aws:ec2:stop-instances", "aws:ec2:terminate-instances"):
        ended = {"stopped", "terminated"} if kind.endswith("stop-instances") else {"terminated"}
        found = (region.ec2.get_instance_by_id(instance_id) for instance_id in _ids(progress))
        return all(instance is None or instance.state in ended for instance in found)
    if kind == "aws:rds:reboot-db-instances":
        known = region.backend("rds").databases
        return all(known[name].status == "available" for name in _ids(progress) if name in known)
    # A disruption without a duration lasts until the experiment is stopped.
    return bool(kind != "aws:network:disrupt-connectivity")


def end(region: Region, action: dict[str, Any], progress: Progress) -> None:
    """Take back what the action did, as far as AWS does. Call with the region's lock held."""
    parameters = action.get("parameters") or {}
    if action["actionId"] == "aws:ec2:stop-instances" and "startInstancesAfterDuration" in parameters:
        for instance_id in _ids(progress):
            instance = region.ec2.get_instance_by_id(instance_id)
            if instance is None or instance.state in ("terminated", "shutting-down"):
                if parameters.get("completeIfInstancesTerminated") != "true":
                    raise ActionFailed(f"The instance {instance_id} can't be started: it was terminated meanwhile.")
            elif instance.state in ("stopped", "stopping"):
                try:
                    region.ec2.start_instances([instance_id])
                except InsufficientInstanceCapacity as error:
                    raise ActionFailed(f"The instance {instance_id} can't be started: {error.message}") from None


def hold(region: Region, action: dict[str, Any], progress: Progress, faults: Faults) -> None:
    """Add to `faults` what the running action keeps in force. Call with the region's lock held."""
    parameters = action.get("parameters") or {}
    kind = action["actionId"]
    if kind == "twin:zone:power-loss":
        faults.dark.add(parameters["availabilityZoneIdentifier"])
    elif kind == "twin:service:unavailable":
        faults.unavailable.add(parameters["service"])
    elif kind == "aws:network:disrupt-connectivity":
        # Of a prefix list, its id is what the firewall looks for.
        scope = parameters.get("prefixListIdentifier") or parameters["scope"]
        faults.disrupted.update(dict.fromkeys(_ids(progress), scope))
    elif kind.endswith("insufficient-instance-capacity-error"):
        zones = {zone.strip() for zone in parameters["availabilityZoneIdentifiers"].split(",")}
        share = int(parameters.get("percentage", 100))
        faults.capacity.append(CapacityFault(frozenset(zones), frozenset(progress.targets), share))


def bodies(region: Region, action: dict[str, Any]) -> list[str]:
    """Network namespaces whose processes the action ends when it starts. Call with the region's lock held."""
    if action["actionId"] != "twin:zone:power-loss":
        return []
    zone = action["parameters"]["availabilityZoneIdentifier"]
    ids = [instance.id for instance in region.ec2.all_instances() if instance.placement.zone == zone]
    ids += [interface.id for interface in region.ec2.enis.values() if interface.subnet.availability_zone == zone]
    return [region.network.namespace(resource_id) for resource_id in ids]


def cut_power(namespaces: list[str]) -> None:
    """End the bodies; without the region's lock, since it takes a while."""
    if namespaces:
        log.warning("power loss: %d processes ended", power.cut(namespaces))


def _ids(progress: Progress) -> list[str]:
    return [arn.rsplit("/", 1)[-1].rsplit(":", 1)[-1] for arn in progress.targets]


def _reboot_databases(region: Region, progress: Progress, failover: bool) -> None:
    for name in _ids(progress):
        region.backend("rds").reboot_db_instance(name, **({"force_failover": True} if failover else {}))


def _assert_alarms(region: Region, parameters: dict[str, str]) -> None:
    allowed = {state.strip() for state in parameters["alarmStates"].split(",")}
    for arn in (arn.strip() for arn in parameters["alarmArns"].split(",")):
        state = alarm_state(region, arn)
        if state not in allowed:
            raise ActionFailed(
                f"The alarm {arn.rsplit(':', 1)[-1]} is in the state {state}, not in {' or '.join(sorted(allowed))}."
            )


def alarm_state(region: Region, arn: str) -> str | None:
    """The state of a CloudWatch alarm, or None when there is no such alarm."""
    alarm = region.backend("cloudwatch").alarms.get(arn.split(":alarm:", 1)[-1])
    return str(alarm.state_value) if alarm is not None else None
