# What leaves the group is drained by the load balancer, then waits here until signup-drain on the instance has ended the
# service and says so. CONTINUE, since nothing is gained by keeping an instance whose agent does not answer.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  name                   = local.hook
  autoscaling_group_name = aws_autoscaling_group.this.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = local.heartbeat_seconds
  default_result         = "CONTINUE"

  # Never a wait that instances may not end.
  depends_on = [aws_iam_role_policy.drain]
}

data "aws_iam_policy_document" "drain" {
  statement {
    sid       = "Drain"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    resources = [aws_autoscaling_group.this.arn]
  }
}

# Apart from the service's policy, which instances need before there is a group.
resource "aws_iam_role_policy" "drain" {
  name   = "drain"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.drain.json
}
