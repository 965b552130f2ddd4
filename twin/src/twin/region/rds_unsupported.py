"""What RDS has and the twin has no body for: refused, where moto would make a record that nothing stands behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.core.utils import camelcase_to_underscores, get_service_model
from moto.rds.exceptions import RDSClientError
from moto.rds.responses import RDSResponse

from twin.region.patch import add, replace
from twin.region.rds_records import unsupported
from twin.region.region import Region

# Parameters of CreateDBInstance, ModifyDBInstance and the restores that would change what the body does.
PARAMETERS = {
    "db_cluster_identifier": "DBClusterIdentifier",
    "publicly_accessible": "PubliclyAccessible",
    "enable_iam_database_authentication": "EnableIAMDatabaseAuthentication",
    "domain": "Domain",
    "domain_fqdn": "DomainFqdn",
    "character_set_name": "CharacterSetName",
    "timezone": "Timezone",
    "db_security_groups": "DBSecurityGroups",
    "enable_cloudwatch_logs_exports": "EnableCloudwatchLogsExports",
    "cloudwatch_logs_export_configuration": "CloudwatchLogsExportConfiguration",
    "monitoring_interval": "MonitoringInterval",
    "custom_iam_instance_profile": "CustomIamInstanceProfile",
    "tde_credential_arn": "TdeCredentialArn",
    "multi_tenant": "MultiTenant",
    "dedicated_log_volume": "DedicatedLogVolume",
    "db_snapshot_cluster_identifier": "DBClusterSnapshotIdentifier",
    "source_db_instance_automated_backups_arn": "SourceDBInstanceAutomatedBackupsArn",
    "source_dbi_resource_id": "SourceDbiResourceId",
}
# Changes of a running instance that moto would only write down.
CHANGES = {
    "db_port_number": "DBPortNumber",
    "db_subnet_group_name": "DBSubnetGroupName",
    "option_group_name": "OptionGroupName",
}
ACTIONS = (
    "create_db_cluster",
    "restore_db_cluster_from_snapshot",
    "restore_db_cluster_to_point_in_time",
    "create_db_cluster_snapshot",
    "create_global_cluster",
    "create_db_instance_read_replica",
    "create_db_proxy",
    "create_db_shard_group",
    "create_blue_green_deployment",
    "start_export_task",
    "create_db_security_group",
    "add_role_to_db_instance",
)


def check(wanted: Mapping[str, Any]) -> None:
    """Refuse an engine or a parameter that has no body."""
    engine = wanted.get("engine")
    if engine is not None and engine != "postgres":
        raise RDSClientError("InvalidParameterValue", f"Invalid DB engine: {engine} is not supported by the twin; postgres is.")
    for name, parameter in PARAMETERS.items():
        if wanted.get(name):
            raise unsupported(parameter)
    if wanted.get("network_type") not in (None, "IPV4"):
        raise unsupported(f"NetworkType {wanted['network_type']}")


def check_change(wanted: Mapping[str, Any], database: Any) -> None:
    """Refuse a change of an instance that has no body; what is as asked already is no change."""
    check(wanted)
    now = {"db_port_number": database.port, "option_group_name": database.option_group_name}
    for name, parameter in CHANGES.items():
        if wanted.get(name) is not None and wanted[name] != now.get(name):
            raise unsupported(f"A change of {parameter}")


def install(region: Region) -> None:
    """Install last: every action that nobody else has taken is refused."""
    for operation in get_service_model("rds").operation_names:
        action = camelcase_to_underscores(operation)
        if action in ACTIONS:
            replace(RDSResponse, action)(_refusal(operation))
        elif not hasattr(RDSResponse, action):
            add(RDSResponse, action)(_refusal(operation))


def _refusal(operation: str) -> Callable[[Any], Any]:
    def refuse(self: Any) -> Any:
        raise unsupported(operation)

    return refuse
