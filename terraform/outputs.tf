output "service_url" {
  description = "Address of the service, as its mails give it."
  value       = local.service_url
}

output "vpc_id" {
  description = "The VPC."
  value       = module.network.vpc_id
}

output "load_balancer_dns_name" {
  description = "DNS name of the load balancer, for an alias or CNAME record."
  value       = module.edge.dns_name
}

output "autoscaling_group_name" {
  description = "Auto Scaling group that a rollout refreshes."
  value       = module.fleet.autoscaling_group_name
}

output "drain_hook_name" {
  description = "Lifecycle hook that holds a leaving instance until its service has ended."
  value       = module.fleet.drain_hook_name
}

output "longest_exit_seconds" {
  description = "Longest time from an instance's leaving to its termination; a healthy one takes little more than drain_seconds."
  value       = module.fleet.longest_exit_seconds
}

output "rollout_alarm_names" {
  description = "CloudWatch alarms that end a rollout and take it back; none of them depends on how many instances are up."
  value       = module.observability.rollout_alarm_names
}

output "dashboard_name" {
  description = "CloudWatch dashboard of the service and what it stands on."
  value       = module.observability.dashboard_name
}

output "launch_template_id" {
  description = "Launch template that a rollout adds a version to."
  value       = module.fleet.launch_template_id
}

output "target_group_arn" {
  description = "Target group whose health decides over the fleet's instances."
  value       = module.edge.target_group_arn
}

output "database_endpoint" {
  description = "Host and port of the database."
  value       = "${module.database.host}:${module.database.port}"
}

output "topic_arn" {
  description = "SNS topic of the signups to verify."
  value       = module.verification.topic_arn
}

output "token_table_name" {
  description = "DynamoDB table of the verification tokens' hashes."
  value       = module.verification.token_table_name
}

output "function_name" {
  description = "Lambda function that sends the verification mails."
  value       = module.verification.function_name
}

output "dead_letter_queue_url" {
  description = "Queue of the messages that could not be delivered or processed."
  value       = module.verification.dead_letter_queue_url
}

output "refused_queue_url" {
  description = "Queue of the messages that trying again won't help, each with its reason."
  value       = module.verification.refused_queue_url
}

output "idempotency_table_name" {
  description = "DynamoDB table of the messages whose mails were sent."
  value       = module.verification.idempotency_table_name
}

output "mail_table_name" {
  description = "DynamoDB table of each mail's steps."
  value       = module.verification.mail_table.name
}

output "verification_alarm_names" {
  description = "CloudWatch alarms of the verification side channel; none of them ends a rollout."
  value       = module.verification.alarm_names
}

output "picture_bucket" {
  description = "Bucket of the profile pictures."
  value       = module.storage.bucket
}

output "delivery_role_arns" {
  description = "Roles of the repository's workflows, by what they do; {} without a repository."
  value       = merge({}, values(module.delivery)[*].role_arns...)
}

output "oidc_provider_arn" {
  description = "GitHub's OIDC provider, for repository.provider_arn of other stacks in the account; null without a repository."
  value       = one(values(module.delivery)[*].provider_arn)
}
