data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "verifier" {
  name               = "${var.name}-verifier"
  description        = "The verifier function"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

data "aws_iam_policy_document" "verifier" {
  statement {
    sid       = "Tokens"
    actions   = ["dynamodb:PutItem"]
    resources = [aws_dynamodb_table.token.arn]
  }

  statement {
    sid       = "Idempotency"
    actions   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.idempotency.arn]
  }

  statement {
    sid       = "Journal"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.mail.arn]
  }

  statement {
    sid       = "SendGridKey"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.sendgrid.arn]
  }

  statement {
    sid       = "GivenUp"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letter.arn, aws_sqs_queue.refused.arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.verifier.arn}:log-stream:*"]
  }
}

resource "aws_iam_role_policy" "verifier" {
  name   = "verifier"
  role   = aws_iam_role.verifier.id
  policy = data.aws_iam_policy_document.verifier.json
}
