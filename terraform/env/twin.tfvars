# The local region. Its image, its package and its addresses come with each run.
name                = "evenkeel"
instance_type       = "t3.small"
mail_from           = "no-reply@evenkeel.example"
deletion_protection = false

fleet = {
  min                  = 3
  max                  = 6
  desired              = 3
  grace_period_seconds = 60
  warmup_seconds       = 5
}

database = {
  instance_class        = "db.t4g.micro"
  multi_az              = false
  backup_retention_days = 1
}
