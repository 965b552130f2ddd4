# What a person has to look at. None of these ends a rollout.
locals {
  alarms = {
    dead-letters = {
      description = "Verification messages could not be delivered or processed. They wait in the dead-letter queue: playbooks/redrive.yml replays them."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letter.name }
      threshold   = 1
    }
    refused = {
      description = "Verification messages are malformed, or SendGrid refuses their mails. They wait in the queue of refused messages, each with its reason."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.refused.name }
      threshold   = 1
    }
    late = {
      description = "Verification mails leave long after their signups."
      namespace   = local.metrics
      metric      = "MailAge"
      dimensions  = { service = "verifier" }
      threshold   = var.late_seconds
    }
    waiting = {
      description = "Verification messages wait for the function: it is throttled, or its attempts fail."
      namespace   = "AWS/Lambda"
      metric      = "AsyncEventAge"
      dimensions  = { FunctionName = aws_lambda_function.verifier.function_name }
      threshold   = 1000 * var.late_seconds
    }
    # These two are messages lost for good, the only ones there can be.
    lost-by-function = {
      description = "Lambda could not put failed verification messages into the dead-letter queue. They are lost."
      namespace   = "AWS/Lambda"
      metric      = "DestinationDeliveryFailures"
      dimensions  = { FunctionName = aws_lambda_function.verifier.function_name }
      threshold   = 1
    }
    lost-by-topic = {
      description = "SNS could not put undelivered verification messages into the dead-letter queue. They are lost."
      namespace   = "AWS/SNS"
      metric      = "NumberOfNotificationsFailedToRedriveToDlq"
      dimensions  = { TopicName = aws_sns_topic.verification.name }
      threshold   = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "verification" {
  for_each = local.alarms

  alarm_name          = "${var.name}-verification-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  # A queue that nobody used for hours reports nothing, nor does a function without mails.
  treat_missing_data = "notBreaching"
  tags               = var.tags
}
