"""RDS whose PostgreSQL instances have bodies: states that take time, secrets that open the database.

Other engines are records only, as moto makes them. A Multi-AZ instance is accepted and recorded as one, but has no
standby yet. Public accessibility, snapshots' contents, restores and replicas are not there yet; restores and replicas
are refused, rather than answered with an empty database.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models
from moto.rds.exceptions import DBParameterGroupNotFoundError, InvalidParameterCombination, RDSClientError
from moto.rds.responses import RDSResponse

from twin.bodies.postgres import NAME, SUPERUSER
from twin.bodies.postgres_image import MAJOR
from twin.region.patch import add, replace, wrap
from twin.region.region import Region

# What RDS's passwords may have but / @ " ' and space: https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
PASSWORD_CHARACTERS = string.ascii_letters + string.digits + "!#$%&()*+-.:;<=>?[]^_{|}~"
PASSWORD_LENGTH = 32


def has_body(database: Any) -> bool:
    return hasattr(database, "body_name")


def password_of(database: Any) -> str:
    """The master user's password as it should be now."""
    if database.manage_master_user_password:
        password: str = json.loads(current_secret(database.master_user_secret.secret))["password"]
        return password
    return str(database._master_user_password)


def parameters_of(database: Any) -> dict[str, str]:
    """The parameters that the instance's parameter group sets."""
    [group] = database.db_parameter_groups()
    values = {name: parameter.get("ParameterValue") for name, parameter in group.parameters.items()}
    return {name: str(value) for name, value in values.items() if value is not None}


def current_secret(secret: Any) -> str:
    version: dict[str, Any] = secret.versions[secret.default_version_id]
    return str(version["secret_string"])


def install(region: Region) -> None:
    _install_secrets()
    _install_creation(region)
    _install_states(region)
    _install_groups(region)


def _new_password() -> str:
    return "".join(secrets.choice(PASSWORD_CHARACTERS) for _ in range(PASSWORD_LENGTH))


def _install_secrets() -> None:
    @replace(models.MasterUserSecret, "_generate_secret_string")
    def generate(self: Any) -> str:
        return json.dumps({"username": self.resource.master_username, "password": _new_password()})

    @replace(models.MasterUserSecret, "rotate_secret")
    def rotate(self: Any) -> None:
        self._status = "rotating"
        self.secretsmanager.put_secret_value(self.secret.arn, self._generate_secret_string(), None, None, ["AWSCURRENT"])


def _install_creation(region: Region) -> None:
    @wrap(models.RDSBackend, "create_db_instance")
    def create_db_instance(original: Any, self: Any, db_kwargs: dict[str, Any]) -> Any:
        if db_kwargs.get("engine") != "postgres" or db_kwargs.get("db_cluster_identifier"):
            return original(self, db_kwargs)
        _check(db_kwargs)
        db_kwargs["engine_version"] = db_kwargs.get("engine_version") or MAJOR
        subnet = _subnet(region, self, db_kwargs)
        database = original(self, db_kwargs)
        database.status = "creating"
        # moto has one constant for all; Terraform's provider looks instances up by it.
        database.dbi_resource_id = "db-" + base64.b32encode(secrets.token_bytes(17)).decode()[:26]
        database.body_name = f"{database.db_instance_identifier}-{database.dbi_resource_id[-5:].lower()}"
        database.availability_zone = subnet.availability_zone
        database.interface = region.ec2.create_network_interface(
            subnet,
            subnet.get_available_subnet_ip(database),
            group_ids=database.vpc_security_group_ids,
            description="RDSNetworkInterface",
        )
        _performance_insights(database, db_kwargs)
        region.wake("Databases")
        return database

    @replace(models.DBInstance, "default_db_parameter_group_details")
    def default_group(self: Any) -> tuple[str, str]:
        """moto takes a version without a point, such as 17, for one without a major version."""
        parts = str(self.engine_version).split(".")
        # PostgreSQL's major version is one number since 10, other engines' are two.
        major = parts[0] if self.engine.endswith("postgres") else ".".join(parts[:2])
        return f"{self.engine}{major}", f"default.{self.engine}{major}"

    for name in (
        "create_db_instance_read_replica",
        "restore_db_instance_from_db_snapshot",
        "restore_db_instance_to_point_in_time",
    ):

        @wrap(models.RDSBackend, name)
        def refuse(original: Any, self: Any, *args: Any, **options: Any) -> Any:
            raise InvalidParameterCombination("This region makes no replicas and restores no snapshots yet.")


def _check(wanted: dict[str, Any]) -> None:
    """Refuse what the body could not become."""
    version = wanted.get("engine_version") or MAJOR
    if version.split(".")[0] != MAJOR:
        raise InvalidParameterCombination(f"Cannot find version {version} for postgres: this region has {MAJOR}.")
    username = wanted.get("master_username") or ""
    if not NAME.fullmatch(username):
        raise RDSClientError("InvalidParameterValue", f"MasterUsername {username} is not valid.")
    if username in (SUPERUSER, "rds_superuser", "public") or username.startswith("pg_"):
        raise RDSClientError("InvalidParameterValue", f"MasterUsername {username} cannot be used as it is a reserved word.")
    name = wanted.get("db_name")
    if name is not None and not NAME.fullmatch(name):
        raise RDSClientError("InvalidParameterValue", f"DBName {name} must begin with a letter and hold letters, digits and _.")
    password = wanted.get("master_user_password")
    if wanted.get("manage_master_user_password"):
        if password:
            raise InvalidParameterCombination("You can't specify MasterUserPassword when ManageMasterUserPassword is on.")
    else:
        _check_password(password or "")


def _check_password(password: str) -> None:
    if not 8 <= len(password) <= 128:
        raise RDSClientError("InvalidParameterValue", "The parameter MasterUserPassword must have 8 to 128 characters.")
    if any(character in "/@\" '" or not " " < character <= "~" for character in password):
        message = "Only printable ASCII characters besides '/', '@', '\"', ' ' may be used."
        raise RDSClientError("InvalidParameterValue", f"The parameter MasterUserPassword is not a valid password. {message}")


def _subnet(region: Region, backend: Any, wanted: dict[str, Any]) -> Any:
    """The subnet that the instance goes to: the group's first in the zone asked for, or its first."""
    name = wanted.get("db_subnet_group_name")
    if name:
        candidates = list(backend.describe_db_subnet_groups(name)[0]._subnets)
    else:
        candidates = list(region.ec2.get_default_subnets().values())
        if not candidates:
            raise InvalidParameterCombination("No default VPC: name a DBSubnetGroupName.")
    zone = wanted.get("availability_zone")
    fitting = [subnet for subnet in candidates if not zone or subnet.availability_zone == zone]
    if not fitting:
        raise InvalidParameterCombination(f"The DB subnet group has no subnet in {zone}.")
    return fitting[0]


def _performance_insights(database: Any, wanted: dict[str, Any]) -> None:
    """Remember what moto forgets, and Terraform compares."""
    enabled = wanted.get("enable_performance_insights")
    if enabled is not None or not hasattr(database, "performance_insights_enabled"):
        database.performance_insights_enabled = bool(enabled)
    if database.performance_insights_enabled:
        previous = getattr(database, "performance_insights_retention_period", 7)
        database.performance_insights_retention_period = wanted.get("performance_insights_retention_period") or previous
        key = wanted.get("performance_insights_kms_key_id")
        if key or not hasattr(database, "performance_insights_kms_key_id"):
            database.performance_insights_kms_key_id = key


def _install_states(region: Region) -> None:
    """Requests only ask; the control loop moves the body and then the state."""

    def require(database: Any, *states: str) -> None:
        if has_body(database) and database.status not in states:
            raise RDSClientError("InvalidDBInstanceState", f"Instance {database.db_instance_identifier} is {database.status}.")

    @wrap(models.RDSBackend, "delete_db_instance")
    def delete_db_instance(original: Any, self: Any, db_instance_identifier: str, *args: Any, **options: Any) -> Any:
        found = self.databases.get(db_instance_identifier)
        if found is not None and has_body(found) and found.status == "deleting":
            raise RDSClientError("InvalidDBInstanceState", f"Instance {db_instance_identifier} is already being deleted.")
        database = original(self, db_instance_identifier, *args, **options)
        if has_body(database):
            # The record goes when the body has gone.
            self.databases[db_instance_identifier] = database
            region.wake("Databases")
        return database

    @wrap(models.RDSBackend, "modify_db_instance")
    def modify_db_instance(original: Any, self: Any, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        database = self.describe_db_instances(db_instance_identifier)[0]
        if has_body(database):
            require(database, "available", "stopped", "failed")
            version = db_kwargs.get("engine_version") or MAJOR
            if version.split(".")[0] != MAJOR:
                raise InvalidParameterCombination(f"Cannot find upgrade target {version} for postgres.")
            if db_kwargs.get("master_user_password"):
                _check_password(db_kwargs["master_user_password"])
            if version == MAJOR:
                db_kwargs.pop("engine_version", None)
        database = original(self, db_instance_identifier, db_kwargs)
        _performance_insights(database, db_kwargs)
        region.wake("Databases")
        return database

    def asks(name: str, state: str, *allowed: str) -> None:
        @wrap(models.RDSBackend, name)
        def ask(original: Any, self: Any, db_instance_identifier: str, *args: Any, **options: Any) -> Any:
            require(self.describe_db_instances(db_instance_identifier)[0], *allowed)
            database = original(self, db_instance_identifier, *args, **options)
            if has_body(database):
                database.status = state
                region.wake("Databases")
            return database

    asks("stop_db_instance", "stopping", "available")
    asks("start_db_instance", "starting", "stopped")
    asks("reboot_db_instance", "rebooting", "available")


def _install_groups(region: Region) -> None:
    @wrap(models.RDSBackend, "modify_db_subnet_group")
    def modify_db_subnet_group(original: Any, self: Any, subnet_name: str, *args: Any, **options: Any) -> Any:
        group = original(self, subnet_name, *args, **options)
        self.subnet_groups[subnet_name] = group  # moto takes it out and forgets to put it back
        return group

    @wrap(models.RDSBackend, "modify_db_parameter_group")
    def modify_db_parameter_group(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        group = original(self, *args, **options)
        region.wake("Databases")
        return group

    @wrap(models.DBParameterGroup, "update_parameters")
    def update_parameters(original: Any, self: Any, new_parameters: Any) -> None:
        original(self, [{"Source": "user", **parameter} for parameter in new_parameters])

    @add(RDSResponse, "reset_db_parameter_group")
    def reset_db_parameter_group(self: Any) -> ActionResult:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ResetDBParameterGroup.html"""
        name = self.params["DBParameterGroupName"]
        group = self.backend.db_parameter_groups.get(name)
        if group is None:
            raise DBParameterGroupNotFoundError(name)
        if self.params.get("ResetAllParameters"):
            group.parameters.clear()
        for parameter in self.params.get("Parameters", []):
            group.parameters.pop(parameter.original_dict()["ParameterName"], None)
        region.wake("Databases")
        return ActionResult({"DBParameterGroupName": name})
