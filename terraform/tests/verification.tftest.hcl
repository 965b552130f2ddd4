mock_provider "aws" {
  source = "./tests/mocks"
}

# By themselves all queues have one mocked ARN, and all tables.
override_resource {
  target = aws_sqs_queue.refused
  values = { arn = "arn:aws:sqs:us-east-1:111122223333:t-verification-refused" }
}

override_resource {
  target = aws_dynamodb_table.idempotency
  values = { arn = "arn:aws:dynamodb:us-east-1:111122223333:table/t-idempotency" }
}

override_resource {
  target = aws_dynamodb_table.mail
  values = { arn = "arn:aws:dynamodb:us-east-1:111122223333:table/t-mail" }
}

variables {
  name                     = "t"
  package                  = "tests/empty.zip"
  publisher_role_arn       = "arn:aws:iam::111122223333:role/t-fleet"
  public_url               = "https://signup.example.com"
  mail_from                = "no-reply@example.com"
  sendgrid_api_key         = "SG.key-of-the-tests"
  sendgrid_api_key_version = 1
  sendgrid_host            = "https://api.sendgrid.com"
  deletion_protection      = true
}

run "no_message_is_lost" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition     = jsondecode(aws_sns_topic_subscription.verifier.redrive_policy).deadLetterTargetArn == aws_sqs_queue.dead_letter.arn
    error_message = "What SNS can't deliver must reach the dead-letter queue."
  }

  assert {
    condition = (
      aws_lambda_function_event_invoke_config.verifier.maximum_retry_attempts == 2 &&
      aws_lambda_function_event_invoke_config.verifier.destination_config[0].on_failure[0].destination == aws_sqs_queue.dead_letter.arn
    )
    error_message = "What the function can't process must be retried twice, then reach the dead-letter queue."
  }

  assert {
    condition     = aws_sqs_queue.dead_letter.message_retention_seconds == 1209600
    error_message = "The dead-letter queue must keep its messages for SQS's longest time, 14 days."
  }

  assert {
    condition = (
      one(data.aws_iam_policy_document.dead_letter.statement).condition == toset([{ test = "ArnEquals", variable = "aws:SourceArn", values = tolist([aws_sns_topic.verification.arn]) }]) &&
      one(data.aws_iam_policy_document.dead_letter.statement).actions == toset(["sqs:SendMessage"])
    )
    error_message = "Of all topics, only this one may put messages in the queue."
  }
}

run "a_killed_attempt_is_followed_by_another" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition     = aws_lambda_function.verifier.timeout < 60
    error_message = "The lock of a killed attempt must have ended when Lambda tries again, after a minute."
  }

  assert {
    condition = (
      aws_dynamodb_table.idempotency.hash_key == "id" && aws_dynamodb_table.idempotency.ttl[0].attribute_name == "expiration" &&
      aws_dynamodb_table.idempotency.ttl[0].enabled && aws_dynamodb_table.idempotency.deletion_protection_enabled
    )
    error_message = "The idempotency table must have the attributes that its users write, and expire."
  }
}

run "what_is_given_up_is_heard" {
  module {
    source = "./modules/verification"
  }

  variables {
    alarm_topic_arns = ["arn:aws:sns:us-east-1:111122223333:on-call"]
  }

  assert {
    condition = {
      for name, alarm in aws_cloudwatch_metric_alarm.verification : name => "${alarm.namespace} ${alarm.metric_name} ${join(",", values(alarm.dimensions))}"
      } == {
      dead-letters     = "AWS/SQS ApproximateNumberOfMessagesVisible t-verification-dead-letter"
      waiting          = "AWS/Lambda AsyncEventAge t-verifier"
      refused          = "AWS/SQS ApproximateNumberOfMessagesVisible t-verification-refused"
      late             = "t/verification MailAge verifier"
      lost-by-function = "AWS/Lambda DestinationDeliveryFailures t-verifier"
      lost-by-topic    = "AWS/SNS NumberOfNotificationsFailedToRedriveToDlq t-verification"
    }
    error_message = "Each place where a message can end, other than as a mail, needs its alarm."
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.verification : name => alarm.threshold } == {
      dead-letters = 1, refused = 1, late = 600, waiting = 600000, lost-by-function = 1, lost-by-topic = 1
    }
    error_message = "One message is enough to ring, and ten minutes are late; Lambda counts in milliseconds."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.verification : alarm.treat_missing_data == "notBreaching" && alarm.alarm_actions == toset(var.alarm_topic_arns)])
    error_message = "A quiet side channel is healthy, and alarms go to the topics given."
  }

  assert {
    condition     = aws_sqs_queue.refused.message_retention_seconds == 1209600 && aws_sqs_queue.refused.sqs_managed_sse_enabled
    error_message = "Refused messages carry addresses: they must be encrypted, and kept as long as a person may need to look."
  }
}

run "only_the_fleet_publishes_and_only_the_topic_invokes" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.topic.statement).principals).identifiers == toset([var.publisher_role_arn])
    error_message = "Only the fleet's role may publish."
  }

  assert {
    condition     = aws_lambda_permission.topic.principal == "sns.amazonaws.com" && aws_lambda_permission.topic.source_arn == aws_sns_topic.verification.arn
    error_message = "Only the topic may invoke the function."
  }
}

run "function_gets_its_settings_and_no_secret" {
  module {
    source = "./modules/verification"
  }

  variables {
    environment = { VERIFIER_SENDGRID_TIMEOUT_SECONDS = "3" }
  }

  assert {
    condition = aws_lambda_function.verifier.environment[0].variables == tomap({
      VERIFIER_TOKEN_TABLE              = "t-token"
      VERIFIER_IDEMPOTENCY_TABLE        = "t-idempotency"
      VERIFIER_MAIL_TABLE               = "t-mail"
      VERIFIER_REFUSED_QUEUE_URL        = aws_sqs_queue.refused.id
      VERIFIER_METRICS_NAMESPACE        = "t/verification"
      VERIFIER_PUBLIC_URL               = "https://signup.example.com"
      VERIFIER_MAIL_FROM                = "no-reply@example.com"
      VERIFIER_TOKEN_LIFETIME_SECONDS   = "600"
      VERIFIER_SENDGRID_SECRET_ARN      = aws_secretsmanager_secret.sendgrid.arn
      VERIFIER_SENDGRID_HOST            = "https://api.sendgrid.com"
      VERIFIER_SENDGRID_TIMEOUT_SECONDS = "3"
    })
    error_message = "The function lacks a variable, has one too many, or the given ones don't win."
  }

  assert {
    condition     = aws_secretsmanager_secret_version.sendgrid.secret_string == null && aws_secretsmanager_secret_version.sendgrid.secret_string_wo_version == 1
    error_message = "The API key must be write-only, or the state keeps it."
  }

  assert {
    condition     = aws_lambda_function.verifier.source_code_hash == filebase64sha256("tests/empty.zip") && aws_lambda_function.verifier.runtime == "python3.13"
    error_message = "A changed package must update the function."
  }
}

run "role_reaches_what_the_function_uses" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.verifier.statement : statement.sid => "${join(",", sort(statement.actions))} ${join(",", sort(statement.resources))}"
      } == {
      Tokens      = "dynamodb:PutItem ${aws_dynamodb_table.token.arn}"
      Idempotency = "dynamodb:DeleteItem,dynamodb:GetItem,dynamodb:PutItem,dynamodb:UpdateItem ${aws_dynamodb_table.idempotency.arn}"
      Journal     = "dynamodb:UpdateItem ${aws_dynamodb_table.mail.arn}"
      SendGridKey = "secretsmanager:GetSecretValue ${aws_secretsmanager_secret.sendgrid.arn}"
      GivenUp     = "sqs:SendMessage ${join(",", sort([aws_sqs_queue.dead_letter.arn, aws_sqs_queue.refused.arn]))}"
      Logs        = "logs:CreateLogStream,logs:PutLogEvents ${aws_cloudwatch_log_group.verifier.arn}:log-stream:*"
    }
    error_message = "The function's role allows more or less than the function uses."
  }
}

run "tokens_expire" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition = (
      aws_dynamodb_table.token.hash_key == "token_hash" && aws_dynamodb_table.token.ttl[0].attribute_name == "expires_at" && aws_dynamodb_table.token.ttl[0].enabled &&
      aws_dynamodb_table.token.server_side_encryption[0].enabled && aws_dynamodb_table.token.deletion_protection_enabled
    )
    error_message = "Tokens must expire by expires_at, and their table be encrypted and protected."
  }
}

run "a_mail_is_found_by_its_recipient" {
  module {
    source = "./modules/verification"
  }

  assert {
    condition = (
      one(aws_dynamodb_table.mail.global_secondary_index).hash_key == "recipient" && aws_dynamodb_table.mail.hash_key == "message_id" &&
      aws_dynamodb_table.mail.ttl[0].attribute_name == "expires_at" && aws_dynamodb_table.mail.ttl[0].enabled && aws_dynamodb_table.mail.server_side_encryption[0].enabled
    )
    error_message = "Operators look mails up by their recipients' hash; the table must expire and be encrypted."
  }
}

run "refuses_a_missing_package" {
  command = plan

  module {
    source = "./modules/verification"
  }

  variables {
    package = "tests/missing.zip"
  }

  expect_failures = [var.package]
}

run "refuses_what_can_not_work" {
  command = plan

  module {
    source = "./modules/verification"
  }

  variables {
    sendgrid_timeout_seconds = 13
    late_seconds             = 0
    alarm_topic_arns         = ["on-call@example.com"]
  }

  expect_failures = [var.sendgrid_timeout_seconds, var.late_seconds, var.alarm_topic_arns]
}

run "refuses_an_empty_key" {
  command = plan

  module {
    source = "./modules/verification"
  }

  variables {
    sendgrid_api_key = " "
  }

  expect_failures = [var.sendgrid_api_key]
}
