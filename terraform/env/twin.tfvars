# The local region: AWS's API and a SendGrid stand-in answer inside each VPC at link-local addresses.
# image_id and verifier_package come with each run.
name                = "evenkeel"
instance_type       = "t3.small"
mail_from           = "no-reply@evenkeel.example"
deletion_protection = false

fleet = {
  min                  = 3
  max                  = 6
  desired              = 3
  grace_period_seconds = 120
  warmup_seconds       = 5
}

drain_seconds = 5

# One machine serves, hashes and loads: what is slow there is no release.
rollout_alarms = { slow_seconds = 5 }

# All load comes from one address.
rate_limits = {
  signup = "12000/minute"
  resend = "12000/minute"
  verify = "12000/minute"
  login  = "12000/minute"
  mail   = "60/hour"
}

database = {
  instance_class        = "db.t4g.micro"
  multi_az              = true
  backup_retention_days = 1
}

sendgrid_host = "http://169.254.171.2"
environment   = { AWS_ENDPOINT_URL = "http://169.254.171.1" }

# No workflow signs in here, but the roles are there to be tried.
repository = {
  owner        = "example"
  owner_id     = 1
  name         = "evenkeel"
  id           = 2
  environments = ["staging", "production"]
}
