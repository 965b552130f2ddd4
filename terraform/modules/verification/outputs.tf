output "topic_arn" {
  description = "Topic of the signups to verify."
  value       = aws_sns_topic.verification.arn
}

output "token_table_name" {
  description = "Name of the token table."
  value       = aws_dynamodb_table.token.name
}

output "token_table_arn" {
  description = "ARN of the token table."
  value       = aws_dynamodb_table.token.arn
}

output "function_name" {
  description = "Name of the verifier function."
  value       = aws_lambda_function.verifier.function_name
}

output "dead_letter_queue_url" {
  description = "URL of the dead-letter queue."
  value       = aws_sqs_queue.dead_letter.id
}

output "refused_queue_url" {
  description = "URL of the queue of refused messages."
  value       = aws_sqs_queue.refused.id
}

output "idempotency_table_name" {
  description = "Name of the idempotency table."
  value       = aws_dynamodb_table.idempotency.name
}

output "mail_table" {
  description = "Name and ARN of the table of mails."
  value       = { name = aws_dynamodb_table.mail.name, arn = aws_dynamodb_table.mail.arn }
}

output "alarm_names" {
  description = "Alarms of the side channel; none of them ends a rollout."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.verification : alarm.alarm_name])
}
