# What ends an instance refresh and rolls it back, and nothing else: no alarm here pages anybody, and no other alarm ends a
# rollout. Each looks at what clients get. The number of unhealthy hosts is not among them: a refresh replaces hosts, new ones
# are unhealthy until they have booted and old ones once they leave, so that such an alarm ends good rollouts; and a release
# that never turns healthy ends its refresh by itself.
locals {
  prefix   = "${var.name}-rollout"
  balancer = { LoadBalancer = var.load_balancer_arn_suffix }
  target   = { LoadBalancer = var.load_balancer_arn_suffix, TargetGroup = var.target_group_arn_suffix }

  errors = {
    service-errors = {
      description = "The service answers with server errors."
      metric      = "HTTPCode_Target_5XX_Count"
      dimensions  = local.target
      threshold   = var.rollout_alarms.service_errors
    }
    # Refused and cut connections, timeouts, no target at all: what a release that breaks before it answers looks like.
    balancer-errors = {
      description = "The load balancer answers with server errors in the service's place."
      metric      = "HTTPCode_ELB_5XX_Count"
      dimensions  = local.balancer
      threshold   = var.rollout_alarms.balancer_errors
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each = local.errors

  alarm_name          = "${local.prefix}-${each.key}"
  alarm_description   = "${each.value.description} Ends a rollout."
  namespace           = "AWS/ApplicationELB"
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  # The load balancer counts no zeros.
  treat_missing_data = "notBreaching"
  tags               = var.tags
}

# Two minutes, since the first requests of every new instance are its slowest.
resource "aws_cloudwatch_metric_alarm" "slow" {
  alarm_name          = "${local.prefix}-slow"
  alarm_description   = "One request in a hundred takes too long. Ends a rollout."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "TargetResponseTime"
  dimensions          = local.target
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.rollout_alarms.slow_seconds
  treat_missing_data  = "notBreaching"
  # A percentile of a handful of requests says nothing.
  evaluate_low_sample_count_percentiles = "ignore"
  tags                                  = var.tags
}
