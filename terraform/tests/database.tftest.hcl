mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "t"
  vpc_id                   = "vpc-0a"
  subnet_ids               = ["subnet-0a", "subnet-0b", "subnet-0c"]
  client_security_group_id = "sg-0fleet"
  instance_class           = "db.t4g.small"
  allocated_storage        = 20
  multi_az                 = true
  engine_version           = "17"
  backup_retention_days    = 7
  deletion_protection      = true
}

run "protects_its_data" {
  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.multi_az && !aws_db_instance.this.publicly_accessible
    error_message = "The database must be encrypted, have its standby, and be private."
  }

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "RDS keeps the password; Terraform must not know it."
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == "t-final"
    error_message = "A protected database refuses deletion and leaves a snapshot."
  }

  assert {
    condition     = [for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"] == ["rds.force_ssl=1"] && aws_db_instance.this.parameter_group_name == aws_db_parameter_group.this.name
    error_message = "Connections without TLS must be refused."
  }
}

run "admits_the_fleet_alone" {
  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.client.referenced_security_group_id == "sg-0fleet" && aws_vpc_security_group_ingress_rule.client.cidr_ipv4 == null &&
      aws_vpc_security_group_ingress_rule.client.from_port == 5432 && aws_vpc_security_group_ingress_rule.client.to_port == 5432
    )
    error_message = "Only the fleet may reach the database, at port 5432."
  }
}

run "unprotected_it_goes_without_a_snapshot" {
  module {
    source = "./modules/database"
  }

  variables {
    deletion_protection = false
  }

  assert {
    condition     = !aws_db_instance.this.deletion_protection && aws_db_instance.this.skip_final_snapshot
    error_message = "Without protection a destroy must go through and leave nothing."
  }
}

run "refuses_another_major_version" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    engine_version = "16.4"
  }

  expect_failures = [var.engine_version]
}

run "refuses_to_go_without_backups" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    backup_retention_days = 0
  }

  expect_failures = [var.backup_retention_days]
}
