locals {
  name = "${var.name}-fleet"
  hook = "${var.name}-drain"

  # Whoever waits for the drain agent, because it was killed or its machine died, waits this long: what the service may
  # take to end, and 15 seconds for noticing and for the calls. AWS takes no less than 30.
  heartbeat_seconds = max(30, var.drain_seconds + 15)

  environment = merge({ for name, limit in var.rate_limits : "SIGNUP_RATE_${upper(name)}" => limit }, {
    AWS_DEFAULT_REGION              = var.region # boto3 reads this one,
    AWS_REGION                      = var.region # other SDKs that one
    SIGNUP_DATABASE_HOST            = var.database.host
    SIGNUP_DATABASE_PORT            = var.database.port
    SIGNUP_DATABASE_NAME            = var.database.name
    SIGNUP_DATABASE_SSLMODE         = "require"
    SIGNUP_DATABASE_SECRET_ARN      = var.database.secret_arn
    SIGNUP_TOPIC_ARN                = var.topic_arn
    SIGNUP_TOKEN_TABLE              = var.token_table.name
    SIGNUP_MAIL_TABLE               = var.mail_table.name
    SIGNUP_MAIL_EVENTS_KEY          = var.mail_events_key
    SIGNUP_PICTURE_BUCKET           = var.picture_bucket.name
    SIGNUP_PUBLIC_URL               = var.public_url
    SIGNUP_AUTOSCALING_GROUP        = local.name
    SIGNUP_DRAIN_HOOK               = local.hook
    SIGNUP_DRAIN_SECONDS            = var.drain_seconds
    SIGNUP_METRICS_NAMESPACE        = var.metrics_namespace
    OBSERVABILITY_LOG_GROUP         = aws_cloudwatch_log_group.this.name
    OBSERVABILITY_METRICS_NAMESPACE = var.metrics_namespace
  }, var.environment)

  user_data = join("\n", ["#cloud-config", yamlencode({
    write_files = [{
      path        = "/etc/signup/signup.env"
      owner       = "root:signup"
      permissions = "0640"
      content     = join("", [for key, value in local.environment : "${key}=${value}\n"])
    }]
  })])
}

# A stream an instance; its lines of metrics become metrics.
resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/fleet"
  retention_in_days = 30
  tags              = var.tags
}

resource "aws_launch_template" "this" {
  name          = local.name
  description   = "Signup fleet"
  image_id      = var.image_id
  instance_type = var.instance_type
  ebs_optimized = true
  user_data     = base64encode(local.user_data)

  vpc_security_group_ids = [aws_security_group.this.id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # One hop: a process in a network namespace of its own on the instance gets no credentials.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = var.root_volume.device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = var.root_volume.size
      encrypted             = true
      delete_on_termination = true
    }
  }

  # Instances get theirs from the group; volumes have no other way to tags.
  tag_specifications {
    resource_type = "volume"
    tags          = merge(var.tags, { Name = local.name })
  }

  tags = var.tags

  # A rollout adds the versions with new images.
  lifecycle {
    ignore_changes = [image_id]
  }
}

resource "aws_autoscaling_group" "this" {
  name                = local.name
  vpc_zone_identifier = var.subnet_ids
  min_size            = var.capacity.min
  max_size            = var.capacity.max
  desired_capacity    = var.capacity.desired
  target_group_arns   = [var.target_group_arn]

  health_check_type         = "ELB"
  health_check_grace_period = var.grace_period_seconds
  default_instance_warmup   = var.warmup_seconds

  # Apply ends when the instances run. That they serve is for the step after it: a wait for their health that fails leaves
  # the group tainted, so that the next apply would destroy it, and says nothing of the reasons meanwhile.
  wait_for_capacity_timeout = "10m"

  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }

  availability_zone_distribution {
    capacity_distribution_strategy = "balanced-best-effort"
  }

  # Launch before terminate, whatever the reason for a replacement.
  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 200
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = local.name })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }

  # Instances call AWS as soon as they boot.
  depends_on = [
    aws_iam_role_policy.this,
    aws_vpc_security_group_egress_rule.database,
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_egress_rule.load_balancer,
    aws_vpc_security_group_ingress_rule.load_balancer,
  ]

  # A rollout moves the group from version to version, and back when it fails. Processes that an operator suspended stay so
  # until the operator resumes them: an apply in the midst of an incident is no decision about it.
  lifecycle {
    ignore_changes = [launch_template[0].version, suspended_processes]
  }
}
