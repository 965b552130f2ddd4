output "rollout_alarm_names" {
  description = "Alarms that end a rollout."
  value       = sort(concat([for alarm in aws_cloudwatch_metric_alarm.errors : alarm.alarm_name], [aws_cloudwatch_metric_alarm.slow.alarm_name]))
}

output "dashboard_name" {
  description = "Dashboard of the service and what it stands on."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
