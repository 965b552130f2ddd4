output "rollout_alarm_names" {
  description = "Alarms that end a rollout."
  value       = sort(concat([for alarm in aws_cloudwatch_metric_alarm.errors : alarm.alarm_name], [aws_cloudwatch_metric_alarm.slow.alarm_name]))
}
