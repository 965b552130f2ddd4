output "role_arns" {
  description = "Roles of the workflows, by what they do."
  value       = { for key, role in aws_iam_role.this : key => role.arn }
}

output "provider_arn" {
  description = "GitHub's OIDC provider, for other stacks of the account."
  value       = coalesce(var.repository.provider_arn, one(values(aws_iam_openid_connect_provider.github)[*].arn))
}
