# What moto by itself forgets or refuses, one resource each: a second plan must be empty.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {}

data "aws_caller_identity" "current" {}

data "aws_ami" "debian" {
  owners      = ["136693071363"]
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-13-amd64-*"]
  }
}

resource "aws_vpc" "this" {
  cidr_block = "10.41.0.0/16"
}

resource "aws_subnet" "this" {
  for_each = { a = 0, b = 1 }

  vpc_id            = aws_vpc.this.id
  availability_zone = "us-east-1${each.key}"
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, each.value)
}

# Launch template and group: tag specifications, warmup, distribution, maintenance, hooks, policies, schedules.
resource "aws_launch_template" "this" {
  name          = "gaps"
  image_id      = data.aws_ami.debian.id
  instance_type = "t3.micro"

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])

    content {
      resource_type = tag_specifications.value
      tags          = { Name = "gaps" }
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  monitoring {
    enabled = true
  }

  tags = { Owner = "nobody" }
}

data "aws_iam_policy_document" "trust" {
  for_each = toset(["autoscaling", "lambda", "ecs-tasks", "fis", "scheduler"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = data.aws_iam_policy_document.trust

  name               = "gaps-${each.key}"
  assume_role_policy = each.value.json
}

resource "aws_sns_topic" "this" {
  name = "gaps"
}

resource "aws_autoscaling_group" "this" {
  name                    = "gaps"
  min_size                = 0
  max_size                = 2
  vpc_zone_identifier     = [for subnet in aws_subnet.this : subnet.id]
  default_instance_warmup = 30
  max_instance_lifetime   = 604800
  termination_policies    = ["OldestLaunchTemplate", "Default"]
  suspended_processes     = ["AZRebalance"]
  enabled_metrics         = ["GroupInServiceInstances", "GroupDesiredCapacity"]

  availability_zone_distribution {
    capacity_distribution_strategy = "balanced-only"
  }

  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 150
  }

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
}

resource "aws_autoscaling_lifecycle_hook" "this" {
  name                    = "gaps"
  autoscaling_group_name  = aws_autoscaling_group.this.name
  lifecycle_transition    = "autoscaling:EC2_INSTANCE_TERMINATING"
  default_result          = "CONTINUE"
  heartbeat_timeout       = 60
  notification_target_arn = aws_sns_topic.this.arn
  role_arn                = aws_iam_role.this["autoscaling"].arn
  notification_metadata   = jsonencode({ a = 1 })

  # Auto Scaling sends a test message, as the role.
  depends_on = [aws_iam_role_policy.notify]
}

data "aws_iam_policy_document" "notify" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]
  }
}

resource "aws_iam_role_policy" "notify" {
  name   = "notify"
  role   = aws_iam_role.this["autoscaling"].id
  policy = data.aws_iam_policy_document.notify.json
}

resource "aws_autoscaling_policy" "tracking" {
  name                   = "tracking"
  autoscaling_group_name = aws_autoscaling_group.this.name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value     = 50
    disable_scale_in = true

    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}

resource "aws_autoscaling_policy" "step" {
  name                      = "step"
  autoscaling_group_name    = aws_autoscaling_group.this.name
  policy_type               = "StepScaling"
  adjustment_type           = "ChangeInCapacity"
  estimated_instance_warmup = 60

  step_adjustment {
    metric_interval_lower_bound = 0
    metric_interval_upper_bound = 10
    scaling_adjustment          = 1
  }

  step_adjustment {
    metric_interval_lower_bound = 10
    scaling_adjustment          = 2
  }
}

resource "aws_autoscaling_schedule" "this" {
  scheduled_action_name  = "night"
  autoscaling_group_name = aws_autoscaling_group.this.name
  min_size               = 0
  max_size               = 1
  desired_capacity       = 0
  recurrence             = "0 3 * * *"
  time_zone              = "Europe/Berlin"
}

# Alarms, events and budgets.
resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = toset(["one", "two"])

  alarm_name          = "gaps-${each.key}"
  namespace           = "Gaps"
  metric_name         = "Errors"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 2
  datapoints_to_alarm = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.this.arn]
}

resource "aws_cloudwatch_composite_alarm" "this" {
  alarm_name    = "gaps"
  alarm_rule    = "ALARM(${aws_cloudwatch_metric_alarm.this["one"].alarm_name}) AND NOT ALARM(${aws_cloudwatch_metric_alarm.this["two"].alarm_name})"
  alarm_actions = [aws_sns_topic.this.arn]
}

resource "aws_cloudwatch_event_rule" "this" {
  name          = "gaps"
  event_pattern = jsonencode({ source = ["aws.autoscaling"], detail-type = [{ prefix = "EC2 Instance" }] })
}

resource "aws_sqs_queue" "this" {
  name = "gaps"
}

resource "aws_cloudwatch_event_target" "this" {
  rule = aws_cloudwatch_event_rule.this.name
  arn  = aws_sqs_queue.this.arn
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "gaps"
  dashboard_body = jsonencode({ widgets = [] })
}

resource "aws_budgets_budget" "this" {
  name         = "gaps"
  budget_type  = "COST"
  limit_amount = "300.0"
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  notification {
    comparison_operator        = "GREATER_THAN"
    notification_type          = "FORECASTED"
    threshold                  = 100
    threshold_type             = "PERCENTAGE"
    subscriber_email_addresses = ["owner@example.com"]
  }
}

# A bucket that only TLS may reach.
resource "aws_s3_bucket" "this" {
  bucket        = "gaps-${data.aws_caller_identity.current.account_id}"
  force_destroy = true
}

data "aws_iam_policy_document" "bucket" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }

    # The people who run Terraform here come over plain HTTP on the loopback interface.
    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values   = [data.aws_caller_identity.current.arn]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.bucket.json
}

# A distribution, a service, a function with a dead-letter queue, an experiment, a schedule.
resource "aws_cloudfront_distribution" "this" {
  enabled = true
  comment = "gaps"

  origin {
    domain_name = "example.com"
    origin_id   = "origin"

    custom_origin_config {
      http_port              = 80
      https_port             = 443
      origin_protocol_policy = "http-only"
      origin_ssl_protocols   = ["TLSv1.2"]
    }
  }

  default_cache_behavior {
    target_origin_id       = "origin"
    viewer_protocol_policy = "redirect-to-https"
    allowed_methods        = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods         = ["GET", "HEAD"]
    min_ttl                = 0
    default_ttl            = 0
    max_ttl                = 0

    forwarded_values {
      query_string = true
      headers      = ["Authorization", "Host"]

      cookies {
        forward = "all"
      }
    }
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = true
  }
}

resource "aws_ecs_cluster" "this" {
  name = "gaps"
}

resource "aws_ecs_task_definition" "this" {
  family                   = "gaps"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  container_definitions    = jsonencode([{ name = "gaps", image = "example.com/gaps:1", essential = true }])
}

resource "aws_ecs_service" "this" {
  name            = "gaps"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = 0
  launch_type     = "FARGATE"

  network_configuration {
    subnets = [for subnet in aws_subnet.this : subnet.id]
  }
}

resource "aws_lambda_function" "this" {
  function_name    = "gaps"
  role             = aws_iam_role.this["lambda"].arn
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  runtime          = "python3.13"
  handler          = "main.handle"

  dead_letter_config {
    target_arn = aws_sqs_queue.this.arn
  }

  tracing_config {
    mode = "PassThrough"
  }
}

resource "aws_fis_experiment_template" "this" {
  description = "gaps"
  role_arn    = aws_iam_role.this["fis"].arn

  stop_condition {
    source = "aws:cloudwatch:alarm"
    value  = aws_cloudwatch_metric_alarm.this["one"].arn
  }

  action {
    name      = "stop"
    action_id = "aws:ec2:stop-instances"

    target {
      key   = "Instances"
      value = "zone"
    }

    parameter {
      key   = "startInstancesAfterDuration"
      value = "PT5M"
    }
  }

  target {
    name           = "zone"
    resource_type  = "aws:ec2:instance"
    selection_mode = "ALL"

    resource_tag {
      key   = "Name"
      value = "gaps"
    }

    filter {
      path   = "Placement.AvailabilityZone"
      values = ["us-east-1a"]
    }
  }
}

resource "aws_dynamodb_table" "this" {
  name         = "gaps"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }
}

resource "aws_kms_key" "this" {
  description             = "gaps"
  deletion_window_in_days = 7
  enable_key_rotation     = true
}

variable "package" {
  description = "Zip file of a function."
  type        = string
}
