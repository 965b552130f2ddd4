locals {
  metrics = "${var.name}/verification"
}

resource "aws_dynamodb_table" "token" {
  name                        = "${var.name}-token"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "token_hash"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "token_hash"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }
}

# Which messages' mails were sent, for longer than any message can come again. Lost, it costs second mails, no first ones.
resource "aws_dynamodb_table" "idempotency" {
  name                        = "${var.name}-idempotency"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }

  server_side_encryption {
    enabled = true
  }
}

# Each mail's steps, for the person on call: found by the SHA-256 of its address, which is not in it.
resource "aws_dynamodb_table" "mail" {
  name                        = "${var.name}-mail"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "message_id"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "message_id"
    type = "S"
  }

  attribute {
    name = "recipient"
    type = "S"
  }

  attribute {
    name = "queued_at"
    type = "S"
  }

  global_secondary_index {
    name            = "recipient"
    hash_key        = "recipient"
    range_key       = "queued_at"
    projection_type = "ALL"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  server_side_encryption {
    enabled = true
  }
}

resource "aws_secretsmanager_secret" "sendgrid" {
  name                    = "${var.name}/sendgrid-api-key"
  description             = "SendGrid API key of the verifier"
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

resource "aws_secretsmanager_secret_version" "sendgrid" {
  secret_id                = aws_secretsmanager_secret.sendgrid.id
  secret_string_wo         = var.sendgrid_api_key
  secret_string_wo_version = var.sendgrid_api_key_version
}

resource "aws_cloudwatch_log_group" "verifier" {
  name              = "/aws/lambda/${var.name}-verifier"
  retention_in_days = 30
  tags              = var.tags
}

resource "aws_lambda_function" "verifier" {
  function_name    = "${var.name}-verifier"
  description      = "Mints a verification token and mails its link"
  role             = aws_iam_role.verifier.arn
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  runtime          = "python3.13"
  architectures    = ["x86_64"]
  handler          = "verifier.handler.handle"
  memory_size      = 256
  # A killed attempt's lock on its message ends with this time, and Lambda's first retry comes after 60 seconds.
  timeout = 30
  tags    = var.tags

  environment {
    variables = merge({
      VERIFIER_TOKEN_TABLE              = aws_dynamodb_table.token.name
      VERIFIER_IDEMPOTENCY_TABLE        = aws_dynamodb_table.idempotency.name
      VERIFIER_MAIL_TABLE               = aws_dynamodb_table.mail.name
      VERIFIER_REFUSED_QUEUE_URL        = aws_sqs_queue.refused.id
      VERIFIER_METRICS_NAMESPACE        = local.metrics
      VERIFIER_PUBLIC_URL               = var.public_url
      VERIFIER_MAIL_FROM                = var.mail_from
      VERIFIER_TOKEN_LIFETIME_SECONDS   = tostring(var.token_lifetime_seconds)
      VERIFIER_SENDGRID_SECRET_ARN      = aws_secretsmanager_secret.sendgrid.arn
      VERIFIER_SENDGRID_HOST            = var.sendgrid_host
      VERIFIER_SENDGRID_TIMEOUT_SECONDS = tostring(var.sendgrid_timeout_seconds)
    }, var.environment)
  }

  # The first invocation would make a log group of its own, one that keeps its logs for ever.
  depends_on = [aws_cloudwatch_log_group.verifier, aws_iam_role_policy.verifier]
}

resource "aws_lambda_function_event_invoke_config" "verifier" {
  function_name          = aws_lambda_function.verifier.function_name
  maximum_retry_attempts = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letter.arn
    }
  }
}
