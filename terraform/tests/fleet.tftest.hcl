mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                            = "t"
  region                          = "us-east-1"
  vpc_id                          = "vpc-0a"
  subnet_ids                      = ["subnet-0a", "subnet-0b", "subnet-0c"]
  image_id                        = "ami-0123456789abcdef0"
  instance_type                   = "t3.small"
  capacity                        = { min = 3, max = 6, desired = 3 }
  grace_period_seconds            = 120
  warmup_seconds                  = 30
  drain_seconds                   = 20
  load_balancer_security_group_id = "sg-0edge"
  target_group_arn                = "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/t-fleet/0a"
  topic_arn                       = "arn:aws:sns:us-east-1:111122223333:t-verification"
  public_url                      = "https://signup.example.com"
  metrics_namespace               = "t/signup"

  database = {
    host              = "db.example.com"
    port              = 5432
    name              = "signup"
    secret_arn        = "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0a"
    security_group_id = "sg-0database"
  }
  rate_limits    = { signup = "20/minute", resend = "10/minute", verify = "", login = "30/minute", mail = "5/hour", login_address = "100/hour" }
  token_table    = { name = "t-token", arn = "arn:aws:dynamodb:us-east-1:111122223333:table/t-token" }
  mail_table     = { name = "t-mail", arn = "arn:aws:dynamodb:us-east-1:111122223333:table/t-mail" }
  picture_bucket = { name = "t-pictures", arn = "arn:aws:s3:::t-pictures" }
}

run "instances_are_closed" {
  module {
    source = "./modules/fleet"
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "The metadata service must require tokens and stay within one hop."
  }

  assert {
    condition     = tobool(aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted) && aws_launch_template.this.block_device_mappings[0].ebs[0].volume_type == "gp3"
    error_message = "The root volume must be an encrypted gp3."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.load_balancer.referenced_security_group_id == "sg-0edge" &&
      aws_vpc_security_group_ingress_rule.load_balancer.from_port == 8080 && aws_vpc_security_group_ingress_rule.load_balancer.to_port == 8080
    )
    error_message = "Only the load balancer may reach the fleet, at port 8080."
  }

  assert {
    condition = (
      aws_vpc_security_group_egress_rule.database.referenced_security_group_id == "sg-0database" &&
      aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    )
    error_message = "The fleet may reach the database and HTTPS alone."
  }
}

run "role_reaches_what_the_service_uses" {
  module {
    source = "./modules/fleet"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.this.statement : statement.sid => "${join(",", sort(statement.actions))} ${join(",", sort(statement.resources))}"
      } == {
      DatabaseCredentials = "secretsmanager:GetSecretValue arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0a"
      Outbox              = "sns:Publish arn:aws:sns:us-east-1:111122223333:t-verification"
      Tokens              = "dynamodb:GetItem,dynamodb:UpdateItem arn:aws:dynamodb:us-east-1:111122223333:table/t-token"
      Mails               = "dynamodb:UpdateItem arn:aws:dynamodb:us-east-1:111122223333:table/t-mail"
      Pictures            = "s3:DeleteObject,s3:GetObject,s3:PutObject arn:aws:s3:::t-pictures/pictures/*"
      Journal             = "logs:CreateLogStream,logs:PutLogEvents ${aws_cloudwatch_log_group.this.arn}:log-stream:*"
    }
    error_message = "The instances' role allows more or less than the service uses."
  }
}

run "user_data_writes_the_settings" {
  module {
    source = "./modules/fleet"
  }

  variables {
    environment = { SIGNUP_LOG_LEVEL = "debug", SIGNUP_DATABASE_NAME = "other", SIGNUP_RATE_LOGIN = "3/minute" }
  }

  assert {
    condition     = startswith(base64decode(aws_launch_template.this.user_data), "#cloud-config\n")
    error_message = "cloud-init takes user data for cloud-config by its first line."
  }

  assert {
    condition = [
      for file in yamldecode(base64decode(aws_launch_template.this.user_data)).write_files : "${file.path} ${file.owner} ${file.permissions}"
    ] == ["/etc/signup/signup.env root:signup 0640"]
    error_message = "The settings must be readable by root and the service alone."
  }

  assert {
    condition = yamldecode(base64decode(aws_launch_template.this.user_data)).write_files[0].content == join("\n", [
      "AWS_DEFAULT_REGION=us-east-1",
      "AWS_REGION=us-east-1",
      "OBSERVABILITY_LOG_GROUP=/t/fleet",
      "OBSERVABILITY_METRICS_NAMESPACE=t/signup",
      "SIGNUP_AUTOSCALING_GROUP=t-fleet",
      "SIGNUP_DATABASE_HOST=db.example.com",
      "SIGNUP_DATABASE_NAME=other",
      "SIGNUP_DATABASE_PORT=5432",
      "SIGNUP_DATABASE_SECRET_ARN=arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0a",
      "SIGNUP_DATABASE_SSLMODE=require",
      "SIGNUP_DRAIN_HOOK=t-drain",
      "SIGNUP_DRAIN_SECONDS=20",
      "SIGNUP_LOG_LEVEL=debug",
      "SIGNUP_MAIL_EVENTS_KEY=",
      "SIGNUP_MAIL_TABLE=t-mail",
      "SIGNUP_METRICS_NAMESPACE=t/signup",
      "SIGNUP_PICTURE_BUCKET=t-pictures",
      "SIGNUP_PUBLIC_URL=https://signup.example.com",
      "SIGNUP_RATE_LOGIN=3/minute",
      "SIGNUP_RATE_LOGIN_ADDRESS=100/hour",
      "SIGNUP_RATE_MAIL=5/hour",
      "SIGNUP_RATE_RESEND=10/minute",
      "SIGNUP_RATE_SIGNUP=20/minute",
      "SIGNUP_RATE_VERIFY=",
      "SIGNUP_TOKEN_TABLE=t-token",
      "SIGNUP_TOPIC_ARN=arn:aws:sns:us-east-1:111122223333:t-verification",
      "",
    ])
    error_message = "The settings file lacks a variable, or the given ones don't win."
  }
}

run "group_keeps_full_capacity" {
  module {
    source = "./modules/fleet"
  }

  assert {
    condition     = aws_autoscaling_group.this.vpc_zone_identifier == toset(var.subnet_ids) && aws_autoscaling_group.this.target_group_arns == toset([var.target_group_arn])
    error_message = "The group must span every subnet and join the target group."
  }

  assert {
    condition = (
      aws_autoscaling_group.this.health_check_type == "ELB" && aws_autoscaling_group.this.health_check_grace_period == 120 &&
      aws_autoscaling_group.this.instance_maintenance_policy[0].min_healthy_percentage == 100 &&
      aws_autoscaling_group.this.instance_maintenance_policy[0].max_healthy_percentage == 200
    )
    error_message = "The load balancer's check decides, and a replacement launches before it terminates."
  }

  assert {
    condition = (
      aws_autoscaling_group.this.wait_for_capacity_timeout == "10m" &&
      aws_autoscaling_group.this.wait_for_elb_capacity == null && aws_autoscaling_group.this.min_elb_capacity == null
    )
    error_message = "Apply must wait for instances that run, but not for their health: a wait that fails taints the group."
  }

  assert {
    condition     = aws_autoscaling_group.this.launch_template[0].version == "1"
    error_message = "The group must name a version by number: AWS can't roll $Latest back."
  }
}

run "leaving_instances_wait_for_their_service_and_no_longer" {
  module {
    source = "./modules/fleet"
  }

  assert {
    condition = (
      aws_autoscaling_lifecycle_hook.drain.name == "t-drain" && aws_autoscaling_lifecycle_hook.drain.default_result == "CONTINUE" &&
      aws_autoscaling_lifecycle_hook.drain.lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING"
    )
    error_message = "A hook must hold terminating instances, and let them go when nobody answers."
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain.heartbeat_timeout == 35 && output.longest_exit_seconds == 55
    error_message = "The hook must wait for as long as the service may take to end, 15 seconds more, and no longer."
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.drain.statement : "${join(",", sort(statement.actions))} ${join(",", sort(statement.resources))}"
      ] == [
      "autoscaling:CompleteLifecycleAction,autoscaling:RecordLifecycleActionHeartbeat arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:0a:autoScalingGroupName/t-fleet",
    ]
    error_message = "Instances may complete lifecycle actions of their own group alone."
  }
}

run "a_short_drain_waits_for_the_least_that_aws_takes" {
  module {
    source = "./modules/fleet"
  }

  variables {
    drain_seconds = 5
  }

  assert {
    condition     = aws_autoscaling_lifecycle_hook.drain.heartbeat_timeout == 30
    error_message = "AWS refuses a heartbeat timeout below 30 seconds."
  }
}

run "refuses_a_drain_longer_than_units_may_take_to_stop" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    drain_seconds = 61
  }

  expect_failures = [var.drain_seconds]
}

run "refuses_settings_that_contradict_the_drain" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    environment = { SIGNUP_DRAIN_SECONDS = "90" }
  }

  expect_failures = [var.environment]
}

run "refuses_an_image_alias" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    image_id = "resolve:ssm:/evenkeel/image"
  }

  expect_failures = [var.image_id]
}

run "refuses_less_wanted_than_least" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    capacity = { min = 3, max = 6, desired = 2 }
  }

  expect_failures = [var.capacity]
}

run "refuses_a_value_that_systemd_would_split" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    environment = { SIGNUP_LOG_LEVEL = "debug\nSIGNUP_PUBLIC_URL=https://elsewhere.example" }
  }

  expect_failures = [var.environment]
}

run "refuses_a_namespace_of_aws" {
  command = plan

  module {
    source = "./modules/fleet"
  }

  variables {
    metrics_namespace = "AWS/EC2"
  }

  expect_failures = [var.metrics_namespace]
}
