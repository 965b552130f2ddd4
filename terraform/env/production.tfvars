# An example for AWS: copy it, put your own names in. Keep the SendGrid key out of it, in
# TF_VAR_sendgrid_api_key; image_id and verifier_package come with each run.
name          = "evenkeel"
vpc_cidr      = "10.20.0.0/16"
zones         = ["us-east-1a", "us-east-1b", "us-east-1c"]
instance_type = "t3.small"
mail_from     = "no-reply@example.com"
tags          = { Environment = "production" }

# Two zones carry the whole load when one is lost.
fleet = {
  min     = 3
  max     = 9
  desired = 3
}

# Longer than the longest request; a rollout takes this long for each batch.
drain_seconds = 30

# Per minute. Above what you see on a quiet day, below what you would take a release back for.
rollout_alarms = {
  service_errors  = 10
  balancer_errors = 10
  slow_seconds    = 2
}

# For one process; an instance has one for each vCPU.
rate_limits = {
  signup = "20/minute"
  mail   = "5/hour"
}

database = {
  instance_class        = "db.t4g.small"
  allocated_storage     = 20
  multi_az              = true
  engine_version        = "17"
  backup_retention_days = 14
}

# With the numbers of your own repository, this makes the roles of .github/workflows (docs/pipeline.md):
# repository = { owner = "example", owner_id = 1, name = "evenkeel", id = 2, environments = ["production"] }
