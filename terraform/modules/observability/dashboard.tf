# One page for whoever is on call: what clients get, what the service does with it, and what may hold it up. Of what processes
# report, the highest is shown, or the sum where events are counted.
locals {
  service  = var.metrics_namespace
  by_route = "{${local.service},Route,Method,StatusClass}"

  widgets = [
    {
      title = "Answers by class"
      lines = [for class in ["2xx", "3xx", "4xx", "5xx"] : [local.service, "Requests", "StatusClass", class, { stat = "Sum", label = class }]]
      unit  = "Requests"
    },
    {
      title = "Errors that clients get"
      lines = [
        ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "TargetGroup", var.target_group_arn_suffix, "LoadBalancer", var.load_balancer_arn_suffix, { stat = "Sum", label = "of the service" }],
        ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", var.load_balancer_arn_suffix, { stat = "Sum", label = "of the load balancer" }],
      ]
      unit = "Errors"
    },
    {
      title = "Time to answer"
      lines = [for stat in ["p50", "p99"] : ["AWS/ApplicationELB", "TargetResponseTime", "TargetGroup", var.target_group_arn_suffix, "LoadBalancer", var.load_balancer_arn_suffix, { stat = stat, label = stat }]]
      unit  = "Seconds"
    },
    {
      title = "Slowest hundredth, by route"
      lines = [[{ expression = "SEARCH('${local.by_route} MetricName=\"Latency\"', 'p99', 60)", id = "latency" }]]
      unit  = "Milliseconds"
    },
    {
      title = "Requests by route"
      lines = [[{ expression = "SEARCH('${local.by_route} MetricName=\"Requests\"', 'Sum', 60)", id = "requests" }]]
      unit  = "Requests"
    },
    {
      title = "Instances in service"
      lines = [for name in ["HealthyHostCount", "UnHealthyHostCount"] : ["AWS/ApplicationELB", name, "TargetGroup", var.target_group_arn_suffix, "LoadBalancer", var.load_balancer_arn_suffix, { stat = "Maximum", label = name }]]
      unit  = "Instances"
    },
    {
      title = "Database connections of a process"
      lines = [
        [local.service, "DatabasePoolSize", { stat = "Maximum", label = "at most" }],
        [local.service, "DatabasePoolCheckedOut", { stat = "Maximum", label = "in use, most" }],
        [local.service, "DatabasePoolWaits", { stat = "Sum", label = "waits, sum" }],
      ]
      unit = "Connections"
    },
    {
      title = "Password hashes of a process"
      lines = [
        [local.service, "HashesBusy", { stat = "Maximum", label = "under way, most" }],
        [local.service, "HashesWaiting", { stat = "Maximum", label = "waiting, most" }],
        [local.service, "HashesRefused", { stat = "Sum", label = "refused, sum" }],
      ]
      unit = "Hashes"
    },
    {
      title = "Outbox: messages not published yet"
      lines = [
        [local.service, "OutboxDepth", { stat = "Maximum", label = "waiting" }],
        [local.service, "OutboxPublished", { stat = "Sum", label = "published" }],
        [local.service, "OutboxFailed", { stat = "Sum", label = "failed attempts" }],
      ]
      unit = "Messages"
    },
    {
      title = "Outbox: age of the oldest message"
      lines = [[local.service, "OutboxOldestAge", { stat = "Maximum", label = "oldest" }]]
      unit  = "Seconds"
    },
    {
      title = "The fullest instance"
      lines = [for name, of in { mem_used_percent = "memory", disk_used_percent = "disk", disk_inodes_used_percent = "inodes" } : [local.service, name, { stat = "Maximum", label = of }]]
      unit  = "Percent"
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.widgets : {
      type   = "metric"
      x      = index % 2 * 12
      y      = floor(index / 2) * 6
      width  = 12
      height = 6
      properties = {
        title   = widget.title
        region  = var.region
        view    = "timeSeries"
        period  = 60
        metrics = widget.lines
        yAxis   = { left = { min = 0, label = widget.unit, showUnits = false } }
      }
    }]
  })
}
