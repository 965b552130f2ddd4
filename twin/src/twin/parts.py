"""What a region is made of: the extensions of moto's services, and the control loops over them. One line each."""

from __future__ import annotations

from twin.control.alarms import Alarms
from twin.control.autoscaling import AutoScaling
from twin.control.balancer_requests import Requests
from twin.control.databases import Databases
from twin.control.experiments import Experiments
from twin.control.expiry import Expiry
from twin.control.functions import Functions
from twin.control.instances import Instances
from twin.control.loadbalancers import LoadBalancers
from twin.control.loop import Loop
from twin.control.metrics import Metrics
from twin.control.networks import Networks
from twin.control.schedules import Schedules
from twin.region import (
    absent_networks,
    access,
    acm,
    autoscaling,
    awslambda,
    budgets,
    cloudfront,
    cloudwatch,
    dynamodb,
    ec2,
    ecs,
    elbv2,
    embedded_metrics,
    events,
    fis,
    launch_templates,
    memory,
    network_acls,
    rds,
    routes,
    scaling_policies,
    scheduled_actions,
    security_groups,
    speed,
    vpc_endpoints,  # before access: what does not reach a service gets no refusal from it
    zonal_shift,
)
from twin.region.images import ImageCatalog
from twin.region.region import Region

# No two change the same function of moto's. The order counts for gates, which see a request in the order of their extensions.
EXTENSIONS = (
    ec2,
    launch_templates,
    security_groups,
    network_acls,
    routes,
    absent_networks,
    vpc_endpoints,  # before access: what does not reach a service gets no refusal from it
    autoscaling,
    acm,
    elbv2,
    zonal_shift,
    rds,
    awslambda,
    budgets,
    cloudfront,
    dynamodb,
    ecs,
    fis,
    memory,
    speed,
    cloudwatch,
    embedded_metrics,
    events,
    scaling_policies,
    scheduled_actions,
    access,
)


def extend(region: Region) -> None:
    """Install every extension. moto's classes are changed once in a process, and refer to this region from then on."""
    for extension in EXTENSIONS:
        extension.install(region)


def loops(region: Region, catalog: ImageCatalog) -> tuple[Loop, ...]:
    """The control loops, in the order in which they find their bodies again and start."""
    return (
        Networks(region),  # first: nothing is let through before its rules are there
        Instances(region, catalog),
        AutoScaling(region),
        LoadBalancers(region),
        Requests(region),
        Databases(region),
        Functions(region),
        Experiments(region),
        Expiry(region),
        Metrics(region),
        Alarms(region),
        Schedules(region),
    )
