"""The instance metadata service, version 2 only by default, as in a launch template with HttpTokens=required.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from twin.region.region import Region

MAX_TOKEN_SECONDS = 21600
CREDENTIAL_SECONDS = 6 * 3600
# Credentials are renewed at least five minutes before they expire.
RENEW_SECONDS = 3600


class Metadata:
    """WSGI application of one VPC's metadata service: the caller's address says which instance asks."""

    def __init__(self, region: Region, vpc_id: str) -> None:
        self.region = region
        self.vpc_id = vpc_id
        # Kept with the region's records: instances go on with their tokens and credentials when the twin was killed.
        with region.records():
            kept = region.kept.setdefault("metadata", {}).setdefault(vpc_id, {"tokens": {}, "credentials": {}})
        self._tokens: dict[str, tuple[str, float]] = kept["tokens"]
        self._credentials: dict[str, tuple[float, dict[str, str]]] = kept["credentials"]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        address = request.remote_addr or ""
        instance = self.region.instance_at(self.vpc_id, address)
        if instance is None:
            return Response("", 404)
        # The first path segment is a version date or "latest"; one tree serves all.
        _, _, rest = request.path.lstrip("/").partition("/")
        if request.method == "PUT" and rest == "api/token":
            return self._token(request, address)
        if request.method != "GET":
            return Response("", 405)
        token = request.headers.get("X-aws-ec2-metadata-token")
        if token is None and instance.metadata_options.http_tokens == "required":
            return Response("", 401)
        if token is not None and not self._valid(token, address):
            return Response("", 401)
        if not rest:
            return Response("dynamic\nmeta-data\nuser-data", mimetype="text/plain")
        if rest == "user-data":
            data = instance.user_data
            return Response(base64.b64decode(str(data)), mimetype="application/octet-stream") if data else Response("", 404)
        return self._leaf(self._tree(instance), rest.split("/"))

    def _token(self, request: Request, address: str) -> Response:
        try:
            seconds = int(request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", ""))
        except ValueError:
            return Response("", 400)
        if not 1 <= seconds <= MAX_TOKEN_SECONDS or "X-Forwarded-For" in request.headers:
            return Response("", 400 if seconds < 1 or seconds > MAX_TOKEN_SECONDS else 403)
        token = secrets.token_urlsafe(40)
        now = time.monotonic()
        with self.region.records():
            for old in [key for key, (_, until) in self._tokens.items() if until <= now]:
                del self._tokens[old]
            self._tokens[token] = (address, now + seconds)
        self.region.changed()
        return Response(token, mimetype="text/plain", headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": str(seconds)})

    def _valid(self, token: str, address: str) -> bool:
        with self.region.records():
            owner, until = self._tokens.get(token, ("", 0.0))
        return owner == address and until > time.monotonic()

    def _tree(self, instance: Any) -> dict[str, Any]:
        nic = instance.nics[0]
        mac = nic.mac_address
        region = self.region.settings.region
        interface = {
            "device-number": "0",
            "interface-id": nic.id,
            "local-hostname": instance.private_dns_name,
            "local-ipv4s": instance.private_ip,
            "mac": mac,
            "owner-id": instance.owner_id,
            "security-group-ids": "\n".join(group.id for group in nic.group_set),
            "subnet-id": nic.subnet.id,
            "subnet-ipv4-cidr-block": nic.subnet.cidr_block,
            "vpc-id": nic.subnet.vpc_id,
        }
        tree: dict[str, Any] = {
            "ami-id": instance.image_id,
            "ami-launch-index": str(instance.ami_launch_index),
            "hostname": instance.private_dns_name,
            "instance-action": "none",
            "instance-id": instance.id,
            "instance-life-cycle": instance.lifecycle or "on-demand",
            "instance-type": instance.instance_type,
            "local-hostname": instance.private_dns_name,
            "local-ipv4": instance.private_ip,
            "mac": mac,
            "network": {"interfaces": {"macs": {mac: interface}}},
            "placement": {"availability-zone": instance.placement.zone, "region": region},
            "reservation-id": self.region.reservation_of(instance),
            "security-groups": "\n".join(group.name for group in nic.group_set),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
        }
        if instance.public_ip:
            tree |= {"public-ipv4": instance.public_ip, "public-hostname": instance.public_dns_name}
        key = self.region.key_pair(instance.key_name)
        if key:
            # EC2 appends the key pair's name as the comment, and Packer looks for it there when it cleans up.
            line = f"{' '.join(key.split()[:2])} {instance.key_name}"
            tree["public-keys"] = {"0=" + instance.key_name: None, "0": {"openssh-key": line}}
        target = self.region.target_lifecycle_state(instance)
        if target is not None:
            tree["autoscaling"] = {"target-lifecycle-state": target}
        role = self.region.role_of(instance)
        if role is not None:
            tree["iam"] = {
                "info": json.dumps(
                    {"Code": "Success", "InstanceProfileArn": role.profile_arn, "InstanceProfileId": role.profile_id}
                ),
                "security-credentials": {role.name: lambda: self._role_credentials(instance.id, role.arn)},
            }
        document = {
            "accountId": instance.owner_id,
            "architecture": instance.architecture,
            "availabilityZone": instance.placement.zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "privateIp": instance.private_ip,
            "region": region,
            "version": "2017-09-30",
        }
        return {"meta-data": tree, "dynamic": {"instance-identity": {"document": json.dumps(document, indent=2)}}}

    def _role_credentials(self, instance_id: str, role_arn: str) -> str:
        now = time.time()
        if not self.region.allows_service("ec2.amazonaws.com", "sts:AssumeRole", role_arn):
            words = f"EC2 cannot assume the role {role_arn.rpartition('/')[2]}. Its trust policy does not name ec2.amazonaws.com."
            return json.dumps({"Code": "AssumeRoleUnauthorizedAccess", "Message": words, "LastUpdated": _stamp(now)}, indent=2)
        with self.region.records():
            until, found = self._credentials.get(instance_id, (0.0, {}))
        if until - now < RENEW_SECONDS:
            key, secret, token = self.region.assume_role(role_arn, instance_id, CREDENTIAL_SECONDS)
            until = now + CREDENTIAL_SECONDS
            found = {
                "Code": "Success",
                "LastUpdated": _stamp(now),
                "Type": "AWS-HMAC",
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "Token": token,
                "Expiration": _stamp(until),
            }
            with self.region.records():
                self._credentials[instance_id] = (until, found)
            self.region.commit()  # an instance uses them for hours: they must not be forgotten
        return json.dumps(found, indent=2)

    @staticmethod
    def _leaf(tree: dict[str, Any], path: list[str]) -> Response:
        node: Any = tree
        for part in path:
            if part == "":
                continue
            if not isinstance(node, dict) or part not in node:
                return Response("", 404)
            node = node[part]
        if callable(node):
            node = node()
        if isinstance(node, dict):
            names = []
            for name, value in node.items():
                if name == "0" and "public-keys" in path:
                    continue  # listed as 0=NAME
                names.append(f"{name}/" if isinstance(value, dict) else name)
            return Response("\n".join(names), mimetype="text/plain")
        return Response(str(node), mimetype="text/plain")


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
