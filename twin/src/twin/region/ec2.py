"""EC2 whose instances have bodies: states that take time, images that are commits, addresses that answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError, InvalidAMIIdError, UnvailableAMIIdError
from moto.ec2.models import amis, elastic_ip_addresses, elastic_network_interfaces, instances, subnets, vpcs

from twin.region.patch import replace, wrap
from twin.region.region import CALLER, Region

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
# Hears of every change of an instance's state: EventBridge's events are made from it.
state_listener: Callable[[Any, str], None] | None = None


def set_state(instance: Any, name: str, code: str = "", message: str = "") -> None:
    """Move an instance to a state; `code` and `message` become its StateReason."""
    instance._state.name = name
    instance._state.code = STATES[name]
    instance.state_reason = instances.StateReason(f"{code}: {message}" if code else "", code)
    instance._reason = f"{message} ({utcnow():%Y-%m-%d %H:%M:%S} GMT)" if message else ""
    if getattr(instance, "announced_state", None) != name:
        instance.announced_state = name
        if state_listener is not None:
            state_listener(instance, name)
    if name == "terminated":
        _give_back_addresses(instance)


def _give_back_addresses(instance: Any) -> None:
    """moto keeps the private addresses of ended instances, so that a subnet runs out of them."""
    for interface in instance.nics.values():
        subnet, address = interface.subnet, interface.private_ip_address
        if interface.instance is instance and subnet._subnet_ips.get(address) in (instance, interface):
            subnet.del_subnet_ip(address)


class IncorrectInstanceState(EC2ClientError):
    def __init__(self, instance: Any, wanted: str) -> None:
        super().__init__(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can be {wanted}."
        )


class InsufficientInstanceCapacity(EC2ClientError):
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""

    def __init__(self, instance_type: str, zone: str, others: list[str]) -> None:
        super().__init__(
            "InsufficientInstanceCapacity",
            f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
            f"Our system will be working on provisioning additional capacity. You can currently get {instance_type} capacity "
            f"by not specifying an Availability Zone in your request or choosing {', '.join(others) or 'another one'}.",
        )


def install(region: Region) -> None:
    _install_launch(region)
    _install_states(region)
    _install_images(region)
    _install_addresses(region)
    _install_networks(region)


def _install_launch(region: Region) -> None:
    def check_capacity(ec2: Any, instance_type: str, zone: str, *askers: str) -> None:
        if region.faults.refuses_launch(zone, *askers):
            zones = sorted(known.name for known in ec2.describe_availability_zones())
            others = [other for other in zones if other != zone and not region.faults.refuses_launch(other, *askers)]
            raise InsufficientInstanceCapacity(instance_type, zone, others)

    @wrap(instances.InstanceBackend, "start_instances")
    def start_instances(original: Any, self: Any, instance_ids: list[str]) -> Any:
        for instance in self.get_multi_instances_by_id(instance_ids):
            if instance.state == "stopped":
                check_capacity(self, instance.instance_type, instance.placement.zone, CALLER.get())
        return original(self, instance_ids)

    @wrap(instances.InstanceBackend, "run_instances")
    def run_instances(original: Any, self: Any, image_id: str, count: int, user_data: Any, groups: Any, **options: Any) -> Any:
        if options.get("launch_template"):
            version = self._get_template_from_args(options["launch_template"])
            image_id = image_id or version.image_id
            user_data = user_data if user_data is not None else version.user_data
            # Parameters that moto does not take over from the template.
            options["metadata_options"] = options.get("metadata_options") or version.data.get("MetadataOptions") or {}
            profile = version.data.get("IamInstanceProfile") or {}
            options["iam_instance_profile"] = options.get("iam_instance_profile") or profile.get("Name") or profile.get("Arn")
            interfaces = version.data.get("NetworkInterfaces") or []
            if interfaces and not options.get("security_group_ids"):
                options["security_group_ids"] = interfaces[0].get("Groups", [])
        image = self.amis.get(image_id)
        if image is None:
            raise InvalidAMIIdError([image_id])
        if image.state != "available":
            raise UnvailableAMIIdError(image_id)
        nics = options.get("nics") or []
        if not options.get("subnet_id") and not any(nic.get("SubnetId") for nic in nics):
            # Without a subnet, AWS takes the default VPC's subnet of the zone asked for, or of any zone.
            defaults = self.get_default_subnets()
            zone = options.get("placement") or min(defaults, default=None)
            if zone in defaults:
                options["subnet_id"] = defaults[zone].id
        subnet_id = options.get("subnet_id") or next((nic["SubnetId"] for nic in nics if nic.get("SubnetId")), None)
        zone = self.get_subnet(subnet_id).availability_zone if subnet_id else options.get("placement")
        askers = options.pop("asker", ""), CALLER.get()  # ARNs of the Auto Scaling group or the role that launches
        if zone:
            check_capacity(self, options.get("instance_type") or "m1.small", zone, *askers)
        before = set(self.reservations)
        try:
            reservation = original(self, image_id, count, user_data, groups, **options)
        except StopIteration:
            for name in set(self.reservations) - before:
                for instance in self.reservations.pop(name).instances:  # those that moto had made until then
                    instance.terminate()
                    set_state(instance, "terminated")
            raise EC2ClientError(
                "InsufficientFreeAddressesInSubnet",
                "There are not enough free addresses in the subnet for the instances asked for.",
            ) from None
        for instance in reservation.instances:
            set_state(instance, "pending")
        region.wake("Instances")
        return reservation


def _install_states(region: Region) -> None:
    """Start, stop, terminate and reboot only ask; the control loop moves the body and then the state.

    moto forgets a public address with its interface; `address_to_release` keeps it for the loop to give back.
    """

    @wrap(instances.Instance, "start")
    def start(original: Any, self: Any) -> Any:
        if self.state not in ("stopped", "running", "pending"):
            raise IncorrectInstanceState(self, "started")
        was_running = self.state in ("running", "pending")
        previous = original(self)
        if not was_running or previous.name == "pending":
            set_state(self, "pending")
        region.wake("Instances")
        return previous

    @wrap(instances.Instance, "stop")
    def stop(original: Any, self: Any) -> Any:
        if self.state in ("terminated", "shutting-down"):
            raise IncorrectInstanceState(self, "stopped")
        was_stopped = self.state == "stopped"
        self.address_to_release = self.public_ip
        previous = original(self)
        if not was_stopped:
            set_state(self, "stopping", "Client.UserInitiatedShutdown", "User initiated shutdown")
        region.wake("Instances")
        return previous

    @wrap(instances.Instance, "terminate")
    def terminate(original: Any, self: Any) -> Any:
        if self.state in ("terminated", "shutting-down"):
            return instances.InstanceState(self.state, self.state_code)
        self.address_to_release = self.public_ip
        previous = original(self)
        set_state(self, "shutting-down", "Client.UserInitiatedShutdown", "User initiated shutdown")
        region.wake("Instances")
        return previous

    @replace(instances.Instance, "reboot")
    def reboot(self: Any) -> None:
        if self.state != "running":
            raise IncorrectInstanceState(self, "rebooted")
        self.reboot_requested = True
        region.wake("Instances")


def _install_images(region: Region) -> None:
    @wrap(amis.AmiBackend, "create_image")
    def create_image(original: Any, self: Any, instance_id: str, name: str, *args: Any, **options: Any) -> Any:
        if any(image.name == name and image.owner_id == self.account_id for image in self.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another AMI.")
        image = original(self, instance_id, name, *args, **options)
        image.root_device_type = "ebs"
        image.root_device_name = self.get_instance(instance_id).root_device_name
        image.state = "pending"
        image.commit_requested = instance_id
        region.wake("Instances")
        return image

    @wrap(amis.AmiBackend, "deregister_image")
    def deregister_image(original: Any, self: Any, ami_id: str, *args: Any, **options: Any) -> Any:
        result = original(self, ami_id, *args, **options)
        region.wake("Instances")
        return result


def _install_addresses(region: Region) -> None:
    """Public addresses are loopback addresses of the twin's own slot."""
    for module in (elastic_network_interfaces, elastic_ip_addresses):
        name = "random_public_ip" if hasattr(module, "random_public_ip") else "random_ip"
        replace(module, name)(region.allocate_public_address)


def _install_networks(region: Region) -> None:
    """A VPC's or subnet's body comes with its first use and goes with its record."""

    @wrap(vpcs.VPCBackend, "delete_vpc")
    def delete_vpc(original: Any, self: Any, vpc_id: str) -> Any:
        result = original(self, vpc_id)
        region.network.remove_vpc(vpc_id)
        return result

    @wrap(subnets.SubnetBackend, "delete_subnet")
    def delete_subnet(original: Any, self: Any, subnet_id: str) -> Any:
        vpc_id = self.get_subnet(subnet_id).vpc_id
        result = original(self, subnet_id)
        region.network.remove_subnet(vpc_id, subnet_id)
        return result
