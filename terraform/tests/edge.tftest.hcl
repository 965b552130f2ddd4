mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                = "t"
  vpc_id              = "vpc-0a"
  subnet_ids          = ["subnet-0a", "subnet-0b", "subnet-0c"]
  http_port           = 80
  client_cidrs        = ["203.0.113.0/24"]
  drain_seconds       = 20
  deletion_protection = true
}

run "serves_in_every_zone" {
  module {
    source = "./modules/edge"
  }

  assert {
    condition     = toset(aws_lb.this.subnets) == toset(var.subnet_ids) && aws_lb.this.internal == false
    error_message = "The load balancer must be public and in every subnet given."
  }

  assert {
    condition     = aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection
    error_message = "The load balancer must drop invalid headers and refuse its deletion."
  }

  assert {
    condition     = aws_lb_listener.http.port == 80 && aws_lb_listener.http.default_action[0].target_group_arn == aws_lb_target_group.this.arn
    error_message = "The listener must forward to the fleet's target group."
  }
}

run "evicts_a_failed_target_within_twelve_seconds" {
  module {
    source = "./modules/edge"
  }

  assert {
    condition = (
      aws_lb_target_group.this.health_check[0].interval * aws_lb_target_group.this.health_check[0].unhealthy_threshold
      + aws_lb_target_group.this.health_check[0].timeout <= 12
    )
    error_message = "The health check needs more than 12 seconds to evict a target."
  }

  assert {
    condition = (
      aws_lb_target_group.this.health_check[0].path == "/healthz" && aws_lb_target_group.this.health_check[0].matcher == "200" &&
      aws_lb_target_group.this.port == 8080 && tonumber(aws_lb_target_group.this.deregistration_delay) == 20
    )
    error_message = "Targets are checked at /healthz on port 8080, and drain for as long as they are told to."
  }
}

run "admits_only_the_clients_named" {
  module {
    source = "./modules/edge"
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.client : "${rule.cidr_ipv4}:${rule.from_port}-${rule.to_port}"] == ["203.0.113.0/24:80-80"]
    error_message = "The load balancer must admit the given ranges at the listener's port, and nothing else."
  }
}

run "refuses_a_range_that_is_none" {
  command = plan

  module {
    source = "./modules/edge"
  }

  variables {
    client_cidrs = ["everyone"]
  }

  expect_failures = [var.client_cidrs]
}

run "refuses_a_single_zone" {
  command = plan

  module {
    source = "./modules/edge"
  }

  variables {
    subnet_ids = ["subnet-0a"]
  }

  expect_failures = [var.subnet_ids]
}
