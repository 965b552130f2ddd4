"""Which parameters name the resources of which service, where that is all there is to say.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

# Services whose calls touch one resource: the first of these parameters that is there names it. In templates {v} is the
# parameter's value, {r} the region, {a} the account; a value that is an ARN stands for itself. A name in () is an operation
# that the row is for.
SINGLE: dict[str, tuple[tuple[str, str], ...]] = {
    "sqs": (("QueueUrl", "sqs:{r}:{a}:{v}"), ("QueueName", "sqs:{r}:{a}:{v}"), ("SourceArn", "{v}")),
    "sns": (
        ("TopicArn", "{v}"),
        ("TargetArn", "{v}"),
        ("SubscriptionArn", "{v}"),
        ("ResourceArn", "{v}"),
        ("Name", "sns:{r}:{a}:{v}"),
    ),
    "cloudwatch": (
        ("AlarmName", "cloudwatch:{r}:{a}:alarm:{v}"),
        ("AlarmNames", "cloudwatch:{r}:{a}:alarm:{v}"),
        ("DashboardName", "cloudwatch::{a}:dashboard/{v}"),
        ("DashboardNames", "cloudwatch::{a}:dashboard/{v}"),
        ("RuleNames", "cloudwatch:{r}:{a}:insight-rule/{v}"),
        ("ResourceARN", "{v}"),
    ),
    "acm": (("CertificateArn", "{v}"), ("ResourceArn", "{v}")),
    "arc-zonal-shift": (("resourceIdentifier", "{v}"),),
    "budgets": (("BudgetName", "budgets::{a}:budget/{v}"), ("ResourceARN", "{v}")),
    "application-autoscaling": (("ResourceARN", "{v}"),),
    "ecs": (
        ("resourceArn", "{v}"),
        ("clusterName", "ecs:{r}:{a}:cluster/{v}"),
        ("taskDefinition", "ecs:{r}:{a}:task-definition/{v}"),
        ("family", "ecs:{r}:{a}:task-definition/{v}:*"),
        ("cluster", "ecs:{r}:{a}:cluster/{v}"),
        ("clusters", "ecs:{r}:{a}:cluster/{v}"),
    ),
    "sts": (("RoleArn", "{v}"),),
    "elbv2": (
        ("RuleArn", "{v}"),
        ("RuleArns", "{v}"),
        ("RulePriorities.RuleArn", "{v}"),
        ("ListenerArn", "{v}"),
        ("TargetGroupArn", "{v}"),
        ("LoadBalancerArn", "{v}"),
        ("ResourceArns", "{v}"),
        ("Name", "elasticloadbalancing:{r}:{a}:loadbalancer/app/{v}/*"),
    ),
    "elb": (
        ("LoadBalancerName", "elasticloadbalancing:{r}:{a}:loadbalancer/{v}"),
        ("LoadBalancerNames", "elasticloadbalancing:{r}:{a}:loadbalancer/{v}"),
    ),
    "cloudfront": (("DistributionId", "cloudfront::{a}:distribution/{v}"), ("Resource", "{v}")),
    "ssm": (("Name", "ssm:{r}:{a}:parameter/{v}"), ("Names", "ssm:{r}:{a}:parameter/{v}"), ("Path", "ssm:{r}:{a}:parameter/{v}")),
    "iam": (
        ("InstanceProfileName", "iam::{a}:instance-profile/{v}"),
        ("GroupName", "iam::{a}:group/{v}"),
        ("RoleName", "iam::{a}:role/{v}"),
        ("UserName", "iam::{a}:user/{v}"),
        ("PolicyArn", "{v}"),
        ("PolicyName", "iam::{a}:policy/{v}"),
        ("OpenIDConnectProviderArn", "{v}"),
        ("SAMLProviderArn", "{v}"),
        ("ServerCertificateName", "iam::{a}:server-certificate/{v}"),
        ("VirtualMFADeviceName", "iam::{a}:mfa/{v}"),
        ("AWSServiceName", "iam::{a}:role/aws-service-role/{v}/*"),
        ("PolicySourceArn", "{v}"),
    ),
}
# Services whose calls touch every resource that they name.
ALL: dict[str, tuple[tuple[str, str], ...]] = {
    "rds": (
        ("DBInstanceIdentifier", "rds:{r}:{a}:db:{v}"),
        ("SourceDBInstanceIdentifier", "rds:{r}:{a}:db:{v}"),
        ("TargetDBInstanceIdentifier", "rds:{r}:{a}:db:{v}"),
        ("DBClusterIdentifier", "rds:{r}:{a}:cluster:{v}"),
        ("DBSnapshotIdentifier", "rds:{r}:{a}:snapshot:{v}"),
        ("SourceDBSnapshotIdentifier", "rds:{r}:{a}:snapshot:{v}"),
        ("TargetDBSnapshotIdentifier", "rds:{r}:{a}:snapshot:{v}"),
        ("DBSubnetGroupName", "rds:{r}:{a}:subgrp:{v}"),
        ("DBParameterGroupName", "rds:{r}:{a}:pg:{v}"),
        ("SourceDBParameterGroupIdentifier", "rds:{r}:{a}:pg:{v}"),
        ("TargetDBParameterGroupIdentifier", "rds:{r}:{a}:pg:{v}"),
        ("OptionGroupName", "rds:{r}:{a}:og:{v}"),
        ("SubscriptionName", "rds:{r}:{a}:es:{v}"),
        ("ResourceName", "{v}"),
    ),
}
