# An example for AWS, beside production in the same account: what is baked once is rolled out here first. Keep the SendGrid key
# out of it, in TF_VAR_sendgrid_api_key; image_id and verifier_package come with each run.
name                = "evenkeel-staging"
vpc_cidr            = "10.21.0.0/16"
zones               = ["us-east-1a", "us-east-1b", "us-east-1c"]
instance_type       = "t3.small"
mail_from           = "no-reply@staging.example.com"
tags                = { Environment = "staging" }
deletion_protection = false

# As many zones as production has: what a rollout meets there, it meets here.
fleet = {
  min     = 3
  max     = 6
  desired = 3
}

database = {
  instance_class        = "db.t4g.micro"
  multi_az              = false
  backup_retention_days = 1
}

# With the numbers of your own repository, this makes the roles of .github/workflows (docs/pipeline.md). Images are baked under
# production's name, and production's stack has made the account's OIDC provider:
# repository = {
#   owner         = "example"
#   owner_id      = 1
#   name          = "evenkeel"
#   id            = 2
#   environments  = ["staging"]
#   image_project = "evenkeel"
#   provider_arn  = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
# }
