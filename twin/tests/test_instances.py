"""Instances with real bodies, as a boto3 client and a person with ssh meet them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from common import until

from twin.bodies.podman import Podman
from twin.bodies.usage import group
from twin.settings import Settings

USER_DATA = "#cloud-config\nwrite_files:\n  - path: /etc/from-user-data\n    content: yes it is\n"


@pytest.fixture(scope="module")
def ec2(client: Callable[[str], Any]) -> Iterator[Any]:
    """A client; meanwhile the default security group, which instances here are in, lets ssh in."""
    ec2 = client("ec2")
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    filters = [{"Name": "group-name", "Values": ["default"]}, {"Name": "vpc-id", "Values": [vpc]}]
    group = ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
    yield ec2
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[ssh])


@pytest.fixture(scope="module")
def key(ec2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    ec2.import_key_pair(KeyName="tester", PublicKeyMaterial=file.with_suffix(".pub").read_bytes())
    return file


def launch(ec2: Any, **options: Any) -> dict[str, Any]:
    base = ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}])["Images"][0]
    options = {"ImageId": base["ImageId"], "InstanceType": "t3.micro", **options}
    instance_id = ec2.run_instances(MinCount=1, MaxCount=1, **options)["Instances"][0]["InstanceId"]
    return reach(ec2, instance_id, "running")


def describe(ec2: Any, instance_id: str) -> dict[str, Any]:
    found: dict[str, Any] = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return found


def reach(ec2: Any, instance_id: str, state: str) -> dict[str, Any]:
    found: dict[str, Any] = until(lambda: (now := describe(ec2, instance_id))["State"]["Name"] == state and now)
    return found


@pytest.fixture(scope="module")
def instance(ec2: Any, key: Path) -> Iterator[dict[str, Any]]:
    found = launch(ec2, KeyName="tester", UserData=USER_DATA, MetadataOptions={"HttpTokens": "required"})
    yield found
    ec2.terminate_instances(InstanceIds=[found["InstanceId"]])
    reach(ec2, found["InstanceId"], "terminated")


def ssh(key: Path, instance: dict[str, Any], command: str) -> str:
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "BatchMode=yes",
    ]

    def attempt() -> subprocess.CompletedProcess[str] | None:
        words = ["ssh", *options, "-i", str(key), f"admin@{instance['PublicIpAddress']}", command]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return None if done.returncode == 255 else done

    done: subprocess.CompletedProcess[str] = until(attempt)
    return done.stdout.strip()


def weight(settings: Settings, instance_id: str) -> int:
    """What the kernel gives a machine of the processors, in the unit of version 1 or 2 of its control groups."""
    pid = Podman(settings).pid(instance_id)
    membership = Path(f"/proc/{pid}/cgroup").read_text()
    if found := group(membership, "cpu"):
        return int((found / "cpu.shares").read_text())
    unified = group(membership, "")
    assert unified
    return int((unified / "cpu.weight").read_text())


def test_a_machine_that_boots_yields_to_those_that_serve(instance: dict[str, Any], served: Settings) -> None:
    before = weight(served, instance["InstanceId"])
    until(lambda: weight(served, instance["InstanceId"]) > 4 * before)


def test_cloud_init_takes_key_user_data_and_host_name(instance: dict[str, Any], key: Path) -> None:
    shown = ssh(key, instance, "cloud-init status --wait; cat /etc/from-user-data; echo; hostname; sudo -n id -u; hostname -I")
    status, text, host, root, addresses = shown.splitlines()
    assert status.strip(".\n ") == "status: done"
    assert text == "yes it is"
    assert host == instance["PrivateDnsName"].split(".")[0]
    assert root == "0"
    assert addresses.split() == [instance["PrivateIpAddress"]]


def test_metadata_asks_for_a_token(instance: dict[str, Any], key: Path) -> None:
    url = "http://169.254.169.254/latest"
    answers = ssh(
        key,
        instance,
        f"curl -so /dev/null -w '%{{http_code}}\\n' {url}/meta-data/instance-id;"
        f"curl -so /dev/null -w '%{{http_code}}\\n' -H 'X-aws-ec2-metadata-token: forged' {url}/meta-data/instance-id;"
        f"t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {url}/api/token);"
        f'curl -s -H "X-aws-ec2-metadata-token: $t" {url}/meta-data/instance-id; echo;'
        f"curl -sX PUT -o /dev/null -w '%{{http_code}}' -H 'X-aws-ec2-metadata-token-ttl-seconds: 999999' {url}/api/token",
    )
    assert answers.split() == ["401", "401", instance["InstanceId"], "400"]


def test_memory_is_the_types_own(instance: dict[str, Any], key: Path) -> None:
    """A process that takes more than the instance has is ended, and the instance goes on."""
    assert instance["InstanceType"] == "t3.micro"  # 1 GiB
    take = "python3 -c 'len(bytearray({} * 2**20))'; echo $?"
    assert ssh(key, instance, take.format(600)).splitlines()[-1] == "0"
    assert ssh(key, instance, take.format(1200)).splitlines()[-1] == "137"
    assert ssh(key, instance, "systemctl is-active ssh") == "active"
    # What podman's monitor notes of it lies with podman's other files.
    assert not Path("oom").exists()


def test_private_addresses_are_private(instance: dict[str, Any]) -> None:
    """The host has no route into a subnet, as there is none from outside a VPC; only the public address leads there."""
    routes = subprocess.run(["ip", "-json", "route"], capture_output=True, text=True, check=True).stdout
    private = ipaddress.ip_address(instance["PrivateIpAddress"])
    networks = [ipaddress.ip_network(route["dst"]) for route in json.loads(routes) if route["dst"] != "default"]
    assert not [network for network in networks if private in network]


def test_a_reboot_from_inside_keeps_the_instance(ec2: Any, instance: dict[str, Any], key: Path, served: Settings) -> None:
    ssh(key, instance, "sudo touch /run/before")
    ssh(key, instance, "sudo systemctl reboot")
    until(lambda: ssh(key, instance, "test -e /run/before || echo gone") == "gone")
    now = describe(ec2, instance["InstanceId"])
    assert now["State"]["Name"] == "running"
    assert now["PrivateIpAddress"] == instance["PrivateIpAddress"]


def test_stopped_instances_start_again_with_their_files(ec2: Any, instance: dict[str, Any], key: Path) -> None:
    ssh(key, instance, "echo kept | sudo tee /var/kept")
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    stopped = reach(ec2, instance["InstanceId"], "stopped")
    assert stopped["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.reboot_instances(InstanceIds=[instance["InstanceId"]])
    ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    again = reach(ec2, instance["InstanceId"], "running")
    assert again["PublicIpAddress"] != instance["PublicIpAddress"]
    instance.update(again)  # it has another public address now
    assert ssh(key, instance, "cat /var/kept") == "kept"


def test_an_image_is_what_the_instance_was(ec2: Any, instance: dict[str, Any], key: Path) -> None:
    ssh(key, instance, "echo baked | sudo tee /var/baked")
    made = ec2.create_image(InstanceId=instance["InstanceId"], Name="baked")["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available")
    with pytest.raises(ClientError, match=r"InvalidAMIName\.Duplicate"):
        ec2.create_image(InstanceId=instance["InstanceId"], Name="baked")
    born = launch(ec2, ImageId=made, KeyName="tester")
    assert ssh(key, born, "cat /var/baked") == "baked"
    ec2.terminate_instances(InstanceIds=[born["InstanceId"]])
    reach(ec2, born["InstanceId"], "terminated")
    ec2.deregister_image(ImageId=made)


def test_a_body_that_fails_to_start_shows_in_the_api(ec2: Any, instance: dict[str, Any], served: Settings) -> None:
    """An image whose file system is broken: there is no /sbin/init."""
    made = ec2.create_image(InstanceId=instance["InstanceId"], Name="broken")["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available")
    podman, image = Podman(served), f"localhost/ami:{made}"
    podman.run("rmi", image)
    empty = served.state / "empty.tar"
    with tarfile.open(empty, "w") as archive:
        archive.addfile(tarfile.TarInfo("a-file"))
    podman.run("import", str(empty), image)
    started = ec2.run_instances(ImageId=made, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ended = reach(ec2, started, "terminated")
    assert ended["StateReason"]["Code"] == "Server.InternalError"
    assert "Internal error on launch" in ended["StateReason"]["Message"]
    assert "/sbin/init" in ended["StateReason"]["Message"]
    assert started not in podman.containers()
    ec2.deregister_image(ImageId=made)


def test_a_stopped_instance_whose_system_is_broken_does_not_start(ec2: Any, instance: dict[str, Any], key: Path) -> None:
    ssh(key, instance, "sudo mv /sbin/init /sbin/init.away; sudo touch /var/broken")
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    reach(ec2, instance["InstanceId"], "stopped")
    ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: describe(ec2, instance["InstanceId"])["StateReason"]["Code"] == "Server.InternalError")
    stopped = reach(ec2, instance["InstanceId"], "stopped")
    assert "/sbin/init" in stopped["StateReason"]["Message"]


def test_an_unknown_image_is_refused(ec2: Any) -> None:
    with pytest.raises(ClientError, match=r"InvalidAMIID\.NotFound"):
        ec2.run_instances(ImageId="ami-00000000000000000", InstanceType="t3.micro", MinCount=1, MaxCount=1)
