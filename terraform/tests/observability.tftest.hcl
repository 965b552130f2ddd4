mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "t"
  region                   = "us-east-1"
  metrics_namespace        = "t/signup"
  load_balancer_arn_suffix = "app/t-edge/0a"
  target_group_arn_suffix  = "targetgroup/t-fleet/0a"
  rollout_alarms           = { service_errors = 10, balancer_errors = 20, slow_seconds = 2 }
}

run "alarms_on_what_clients_get" {
  module {
    source = "./modules/observability"
  }

  assert {
    condition = {
      for alarm in aws_cloudwatch_metric_alarm.errors : alarm.alarm_name => "${alarm.metric_name} ${join(",", keys(alarm.dimensions))} ${alarm.threshold}"
      } == {
      t-rollout-service-errors  = "HTTPCode_Target_5XX_Count LoadBalancer,TargetGroup 10"
      t-rollout-balancer-errors = "HTTPCode_ELB_5XX_Count LoadBalancer 20"
    }
    error_message = "Errors of the service and of the load balancer each have an alarm, on the dimensions that AWS publishes them with."
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.errors :
      alarm.statistic == "Sum" && alarm.period * alarm.evaluation_periods == 60 && alarm.treat_missing_data == "notBreaching"
    ])
    error_message = "An alarm must go off within a minute's errors, and stay silent where nothing was measured."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.slow.extended_statistic == "p99" && aws_cloudwatch_metric_alarm.slow.threshold == 2
    error_message = "The slowest hundredth of requests has an alarm."
  }

  assert {
    condition     = output.rollout_alarm_names == tolist(["t-rollout-balancer-errors", "t-rollout-service-errors", "t-rollout-slow"])
    error_message = "The output must name every alarm."
  }
}

run "refuses_thresholds_that_are_always_met" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    rollout_alarms = { service_errors = 0, balancer_errors = 10, slow_seconds = 0 }
  }

  expect_failures = [var.rollout_alarms]
}

run "refuses_an_arn_in_a_names_place" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    load_balancer_arn_suffix = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/app/t-edge/0a"
    target_group_arn_suffix  = "t-fleet"
  }

  expect_failures = [var.load_balancer_arn_suffix, var.target_group_arn_suffix]
}

run "shows_one_dashboard" {
  module {
    source = "./modules/observability"
  }

  assert {
    condition     = output.dashboard_name == "t"
    error_message = "The dashboard goes by the project's name."
  }

  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets :
      widget.properties.region == "us-east-1" && length(widget.properties.metrics) > 0 && widget.x + widget.width <= 24
    ])
    error_message = "Every widget must show something, of this region, within the page's 24 columns."
  }

  assert {
    condition = length(distinct([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : "${widget.x},${widget.y}"
    ])) == length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets)
    error_message = "No widget may lie on another."
  }

  assert {
    condition = toset(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
        for line in widget.properties.metrics : line[0] if can(regex("/", line[0]))
      ]
    ])) == toset(["AWS/ApplicationELB", "t/signup"])
    error_message = "The service's metrics must come from the namespace that the fleet is given."
  }
}
