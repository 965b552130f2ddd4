"""What runs: zones, instances, their image and health, and how to reach it. Asks the AWS API alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from evenkeel.steps import Failure
from evenkeel.target import Target

RECENT_MINUTES = 15
TROUBLES_SHOWN = 5


def fleet(target: Target, group_name: str) -> list[dict[str, str]]:
    """One row an instance of the group: id, zone, image, version, lifecycle, health at the load balancer."""
    groups = target.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group_name])["AutoScalingGroups"]
    if not groups:
        raise Failure(f"there is no Auto Scaling group {group_name}: run `make up`")
    group = groups[0]
    health: dict[str, str] = {}
    for arn in group["TargetGroupARNs"]:
        for entry in target.client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]:
            state = entry["TargetHealth"]
            health[entry["Target"]["Id"]] = state["State"] + (f" ({state['Reason']})" if state.get("Reason") else "")
    ids = [instance["InstanceId"] for instance in group["Instances"]]
    reservations = target.client("ec2").describe_instances(InstanceIds=ids)["Reservations"] if ids else []
    details: dict[str, Any] = {instance["InstanceId"]: instance for entry in reservations for instance in entry["Instances"]}
    rows = []
    for instance in sorted(group["Instances"], key=lambda entry: entry["AvailabilityZone"]):
        detail = details.get(instance["InstanceId"], {})
        rows.append(
            {
                "zone": instance["AvailabilityZone"],
                "instance": instance["InstanceId"],
                "address": detail.get("PrivateIpAddress", "-"),
                "image": detail.get("ImageId", "-"),
                "template": instance.get("LaunchTemplate", {}).get("Version", "-"),
                "lifecycle": instance["LifecycleState"],
                "target": health.get(instance["InstanceId"], "-"),
            }
        )
    return rows


def troubles(target: Target, group_name: str) -> list[str]:
    """What went wrong lately, newest first: activities of the group that failed, databases that are in no good state."""
    found = []
    since = datetime.now(UTC) - timedelta(minutes=RECENT_MINUTES)
    activities = target.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group_name)["Activities"]
    for entry in activities:
        if entry["StatusCode"] == "Failed" and entry["StartTime"] > since:
            found.append(
                f"{entry['StartTime']:%H:%M:%S}  {entry['Description']}: {entry.get('StatusMessage', 'no reason given')}"
            )
    for database in target.client("rds").describe_db_instances()["DBInstances"]:
        if database["DBInstanceStatus"] in (
            "failed",
            "storage-full",
            "incompatible-parameters",
            "inaccessible-encryption-credentials",
        ):
            found.append(f"database {database['DBInstanceIdentifier']} is {database['DBInstanceStatus']}")
    return found[:TROUBLES_SHOWN]


def healthy(rows: list[dict[str, str]]) -> int:
    return sum(row["lifecycle"] == "InService" and row["target"] == "healthy" for row in rows)


def table(rows: list[dict[str, str]]) -> str:
    """Rows as aligned columns under their names."""
    if not rows:
        return "(none)"
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    lines = ["  ".join(column.ljust(widths[column]) for column in columns)]
    lines += ["  ".join(row[column].ljust(widths[column]) for column in columns) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def show(target: Target, outputs: dict[str, Any]) -> str:
    """The whole report as text."""
    rows = fleet(target, outputs["autoscaling_group_name"])
    lines = [table(rows), ""]
    names = {row["image"] for row in rows} - {"-"}
    images = target.client("ec2").describe_images(ImageIds=sorted(names))["Images"] if names else []
    for image in images:
        tags = {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}
        of = f"service {tags.get('ServiceVersion', '?')}, commit {tags.get('Commit', '?')}"
        lines.append(f"image     {image['ImageId']} {image['Name']} ({of})")
    for database in target.client("rds").describe_db_instances()["DBInstances"]:
        name, state = database["DBInstanceIdentifier"], database["DBInstanceStatus"]
        standby = f", standby in {database['SecondaryAvailabilityZone']}" if database.get("SecondaryAvailabilityZone") else ""
        lines.append(f"database  {name} {state} in {database.get('AvailabilityZone', '?')}{standby}")
    zones = {row["zone"] for row in rows if row["target"] == "healthy"}
    lines.append(f"service   {outputs['service_url']}: {healthy(rows)} of {len(rows)} healthy, in {len(zones)} zones")
    lines += [f"trouble   {words}" for words in troubles(target, outputs["autoscaling_group_name"])]
    if target.local:
        lines.append(f"mail      {target.local.mail_url}")
        lines.append(f"api       {target.local.endpoint_url}")
    return "\n".join(lines)
