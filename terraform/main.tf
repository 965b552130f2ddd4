data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  region = data.aws_region.current.name
  zones  = coalesce(var.zones, [for letter in ["a", "b", "c"] : "${local.region}${letter}"])
  tags   = merge({ Project = var.name, ManagedBy = "terraform" }, var.tags)

  load_balancer_url = "http://${module.edge.dns_name}${var.http_port == 80 ? "" : ":${var.http_port}"}"
  service_url       = coalesce(var.public_url, local.load_balancer_url)

  metrics_namespace = "${var.name}/signup"
}

module "network" {
  source = "./modules/network"

  name   = var.name
  cidr   = var.vpc_cidr
  region = local.region
  zones  = local.zones
  tags   = local.tags
}

module "edge" {
  source = "./modules/edge"

  name                = var.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.public_subnet_ids
  http_port           = var.http_port
  client_cidrs        = var.client_cidrs
  drain_seconds       = var.drain_seconds
  deletion_protection = var.deletion_protection
  tags                = local.tags
}

module "observability" {
  source = "./modules/observability"

  name                     = var.name
  load_balancer_arn_suffix = module.edge.load_balancer_arn_suffix
  target_group_arn_suffix  = module.edge.target_group_arn_suffix
  rollout_alarms           = var.rollout_alarms
  region                   = local.region
  metrics_namespace        = local.metrics_namespace
  tags                     = local.tags
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = module.fleet.security_group_id
  instance_class           = var.database.instance_class
  allocated_storage        = var.database.allocated_storage
  multi_az                 = var.database.multi_az
  engine_version           = var.database.engine_version
  backup_retention_days    = var.database.backup_retention_days
  deletion_protection      = var.deletion_protection
  tags                     = local.tags
}

module "storage" {
  source = "./modules/storage"

  bucket        = "${var.name}-pictures-${data.aws_caller_identity.current.account_id}"
  force_destroy = !var.deletion_protection
  tags          = local.tags
}

module "verification" {
  source = "./modules/verification"

  name                     = var.name
  package                  = var.verifier_package
  publisher_role_arn       = module.fleet.role_arn
  public_url               = local.service_url
  mail_from                = var.mail_from
  sendgrid_host            = var.sendgrid_host
  sendgrid_api_key         = var.sendgrid_api_key
  sendgrid_api_key_version = var.sendgrid_api_key_version
  alarm_topic_arns         = var.alarm_topic_arns
  environment              = var.environment
  deletion_protection      = var.deletion_protection
  tags                     = local.tags
}

module "fleet" {
  source = "./modules/fleet"

  name                            = var.name
  region                          = local.region
  vpc_id                          = module.network.vpc_id
  subnet_ids                      = module.network.app_subnet_ids
  image_id                        = var.image_id
  instance_type                   = var.instance_type
  capacity                        = { min = var.fleet.min, max = var.fleet.max, desired = var.fleet.desired }
  grace_period_seconds            = var.fleet.grace_period_seconds
  warmup_seconds                  = var.fleet.warmup_seconds
  drain_seconds                   = var.drain_seconds
  load_balancer_security_group_id = module.edge.security_group_id
  target_group_arn                = module.edge.target_group_arn
  public_url                      = local.service_url
  metrics_namespace               = local.metrics_namespace
  mail_events_key                 = var.mail_events_key
  rate_limits                     = var.rate_limits
  environment                     = var.environment
  tags                            = local.tags

  database = {
    host              = module.database.host
    port              = module.database.port
    name              = module.database.database_name
    secret_arn        = module.database.secret_arn
    security_group_id = module.database.security_group_id
  }
  topic_arn      = module.verification.topic_arn
  token_table    = { name = module.verification.token_table_name, arn = module.verification.token_table_arn }
  mail_table     = module.verification.mail_table
  picture_bucket = { name = module.storage.bucket, arn = module.storage.bucket_arn }
}

# Optional: what a repository's workflows may do here.
module "delivery" {
  source   = "./modules/delivery"
  for_each = var.repository == null ? {} : { github = var.repository }

  name                  = var.name
  region                = local.region
  account_id            = data.aws_caller_identity.current.account_id
  repository            = each.value
  image_project         = coalesce(each.value.image_project, var.name)
  autoscaling_group_arn = module.fleet.autoscaling_group_arn
  launch_template_arn   = module.fleet.launch_template_arn
  instance_role_arn     = module.fleet.role_arn
  tags                  = local.tags

  # As evenkeel/stack.py names them.
  state = {
    bucket = "evenkeel-terraform-${data.aws_caller_identity.current.account_id}-${local.region}"
    key    = "${var.name}.tfstate"
  }
}
