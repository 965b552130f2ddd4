output "autoscaling_group_name" {
  description = "Name of the Auto Scaling group."
  value       = aws_autoscaling_group.this.name
}

output "autoscaling_group_arn" {
  description = "ARN of the Auto Scaling group."
  value       = aws_autoscaling_group.this.arn
}

output "drain_hook_name" {
  description = "Lifecycle hook that holds a leaving instance until its service has ended."
  value       = aws_autoscaling_lifecycle_hook.drain.name
}

output "longest_exit_seconds" {
  description = "Longest time from an instance's leaving to its termination: draining, then a hook that nobody answers."
  value       = var.drain_seconds + local.heartbeat_seconds
}

output "launch_template_id" {
  description = "Launch template of the fleet."
  value       = aws_launch_template.this.id
}

output "launch_template_arn" {
  description = "ARN of the fleet's launch template."
  value       = aws_launch_template.this.arn
}

output "security_group_id" {
  description = "Security group of the instances."
  value       = aws_security_group.this.id
}

output "role_arn" {
  description = "Role of the instances."
  value       = aws_iam_role.this.arn
}
