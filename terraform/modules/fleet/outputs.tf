output "autoscaling_group_name" {
  description = "Name of the Auto Scaling group."
  value       = aws_autoscaling_group.this.name
}

output "launch_template_id" {
  description = "Launch template of the fleet."
  value       = aws_launch_template.this.id
}

output "security_group_id" {
  description = "Security group of the instances."
  value       = aws_security_group.this.id
}

output "role_arn" {
  description = "Role of the instances."
  value       = aws_iam_role.this.arn
}
