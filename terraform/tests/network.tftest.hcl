mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name   = "t"
  cidr   = "10.20.0.0/16"
  region = "us-east-1"
  zones  = ["us-east-1a", "us-east-1b", "us-east-1c"]
}

run "three_tiers_over_three_zones" {
  module {
    source = "./modules/network"
  }

  assert {
    condition = length(distinct(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.app : subnet.cidr_block],
      [for subnet in aws_subnet.database : subnet.cidr_block],
    ))) == 9
    error_message = "Each of the nine subnets needs a range of its own."
  }

  assert {
    condition = alltrue(flatten([
      for tier in [aws_subnet.public, aws_subnet.app, aws_subnet.database] :
      [for zone, subnet in tier : subnet.availability_zone == zone && !coalesce(subnet.map_public_ip_on_launch, false)]
    ]))
    error_message = "A subnet is in the wrong zone or gives out public addresses."
  }

  assert {
    condition     = aws_subnet.app["us-east-1b"].cidr_block == "10.20.80.0/20"
    error_message = "The app tier of the second zone moved: a change of ranges replaces subnets in use."
  }
}

run "each_zone_has_its_own_way_out" {
  module {
    source = "./modules/network"
  }

  assert {
    condition     = toset(keys(aws_nat_gateway.this)) == toset(var.zones)
    error_message = "Every zone needs a NAT gateway."
  }

  assert {
    condition = alltrue([
      for zone in var.zones :
      aws_nat_gateway.this[zone].subnet_id == aws_subnet.public[zone].id &&
      aws_route.app[zone].nat_gateway_id == aws_nat_gateway.this[zone].id &&
      aws_route.app[zone].route_table_id == aws_route_table.app[zone].id &&
      aws_route_table_association.app[zone].subnet_id == aws_subnet.app[zone].id &&
      aws_route_table_association.app[zone].route_table_id == aws_route_table.app[zone].id
    ])
    error_message = "An app subnet leaves through another zone."
  }

  assert {
    condition = alltrue([
      for route in concat([aws_route.public], values(aws_route.app)) : route.route_table_id != aws_route_table.database.id
    ])
    error_message = "The database tier must have no default route."
  }

  assert {
    condition     = length(coalesce(aws_default_security_group.this.ingress, [])) == 0 && length(coalesce(aws_default_security_group.this.egress, [])) == 0
    error_message = "The default security group must have no rules."
  }

  assert {
    condition = (
      aws_vpc_endpoint.gateway["s3"].service_name == "com.amazonaws.us-east-1.s3" &&
      toset(aws_vpc_endpoint.gateway["dynamodb"].route_table_ids) == toset([for table in aws_route_table.app : table.id])
    )
    error_message = "S3 and DynamoDB must be reached from the app tier without a NAT gateway."
  }
}

run "refuses_a_zone_of_another_region" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    zones = ["us-east-1a", "eu-west-1b"]
  }

  expect_failures = [var.zones]
}

run "refuses_the_same_zone_twice" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    zones = ["us-east-1a", "us-east-1a"]
  }

  expect_failures = [var.zones]
}

run "refuses_a_range_too_small" {
  command = plan

  module {
    source = "./modules/network"
  }

  variables {
    cidr = "10.20.0.0/24"
  }

  expect_failures = [var.cidr]
}
