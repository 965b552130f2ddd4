mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image_id         = "ami-0123456789abcdef0"
  mail_from        = "no-reply@example.com"
  sendgrid_api_key = "SG.key-of-the-tests"
  verifier_package = "tests/empty.zip"
}

run "links_lead_to_the_load_balancer" {
  assert {
    condition     = output.service_url == "http://t-edge-1.us-east-1.elb.amazonaws.com"
    error_message = "Without a public URL, links must lead to the load balancer."
  }

  assert {
    condition     = output.autoscaling_group_name == "evenkeel-fleet" && output.database_endpoint == "t.c0ffee.us-east-1.rds.amazonaws.com:5432"
    error_message = "Rollouts find the group by its name, operators the database by host and port."
  }

  assert {
    condition     = output.picture_bucket == "evenkeel-pictures-111122223333"
    error_message = "The bucket's name must carry the account, or another account can take it."
  }
}

run "links_carry_an_unusual_port" {
  variables {
    http_port = 8000
  }

  assert {
    condition     = output.service_url == "http://t-edge-1.us-east-1.elb.amazonaws.com:8000"
    error_message = "A port other than 80 must show in the links."
  }
}

run "links_lead_to_the_public_url" {
  variables {
    public_url = "https://signup.example.com"
  }

  assert {
    condition     = output.service_url == "https://signup.example.com"
    error_message = "A public URL must win over the load balancer's name."
  }
}

run "no_repository_has_roles_by_itself" {
  assert {
    condition     = output.delivery_role_arns == {} && output.oidc_provider_arn == null
    error_message = "Without a repository there must be no roles for workflows."
  }
}

run "a_repository_gets_its_roles" {
  variables {
    repository = { owner = "octo-org", owner_id = 123456, name = "octo-repo", id = 456789 }
  }

  assert {
    condition     = keys(output.delivery_role_arns) == ["bake", "deploy", "plan"]
    error_message = "Workflows need a role to bake, one to deploy, one to plan."
  }
}

run "one_variable_decides_how_long_an_exit_takes" {
  variables {
    drain_seconds = 40
  }

  assert {
    condition     = output.drain_hook_name == "evenkeel-drain" && output.longest_exit_seconds == 40 + 40 + 15
    error_message = "Draining takes drain_seconds, the service's end as long again, noticing and calls 15 seconds."
  }
}

run "rollouts_find_their_alarms" {
  assert {
    condition     = output.rollout_alarm_names == tolist(["evenkeel-rollout-balancer-errors", "evenkeel-rollout-service-errors", "evenkeel-rollout-slow"])
    error_message = "Rollouts find the alarms that end them by name."
  }
}

run "refuses_bad_input" {
  command = plan

  variables {
    name             = "Evenkeel_"
    vpc_cidr         = "10.20.0.1/16"
    zones            = ["us-east-1a"]
    image_id         = "debian-13"
    instance_type    = "small"
    fleet            = { min = 3, desired = 2 }
    database         = { instance_class = "t4g.micro" }
    http_port        = 0
    client_cidrs     = []
    public_url       = "signup.example.com"
    mail_from        = "Evenkeel <no-reply@example.com>"
    sendgrid_api_key = ""
    sendgrid_host    = "https://api.sendgrid.com/"
    verifier_package = "tests/missing.zip"
    tags             = { "aws:owner" = "me" }
    repository       = { owner = "octo-org", owner_id = 0, name = "octo-repo", id = 456789 }
    drain_seconds    = 4.5
    rollout_alarms   = { service_errors = 0 }
    rate_limits      = { signup = "20 a minute" }
    mail_events_key  = "-----BEGIN PUBLIC KEY-----"
  }

  expect_failures = [
    var.name, var.vpc_cidr, var.zones, var.image_id, var.instance_type, var.fleet, var.database, var.http_port, var.client_cidrs,
    var.public_url, var.mail_from, var.sendgrid_api_key, var.sendgrid_host, var.verifier_package, var.tags,
    var.drain_seconds, var.rollout_alarms, var.rate_limits, var.repository,
    var.mail_events_key,
  ]
}

run "refuses_credentials_in_the_environment" {
  command = plan

  variables {
    environment = { AWS_SECRET_ACCESS_KEY = "secret" }
  }

  expect_failures = [var.environment]
}

run "refuses_a_second_opinion_on_draining" {
  command = plan

  variables {
    environment = { SIGNUP_DRAIN_SECONDS = "90" }
  }

  expect_failures = [var.environment]
}

run "refuses_an_environment_in_lower_case" {
  command = plan

  variables {
    environment = { log_level = "debug" }
  }

  expect_failures = [var.environment]
}
