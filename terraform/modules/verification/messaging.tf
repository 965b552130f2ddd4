# Two layers can give up on a message: delivery, by the subscription's redrive policy, and the
# function, by its on-failure destination. Both leave it in this queue.
resource "aws_sqs_queue" "dead_letter" {
  name                      = "${var.name}-verification-dead-letter"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

# What trying again won't help: the function puts it here itself, and such a message is none of the dead letters.
resource "aws_sqs_queue" "refused" {
  name                      = "${var.name}-verification-refused"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

data "aws_iam_policy_document" "dead_letter" {
  statement {
    sid       = "UndeliveredMessages"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letter.arn]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_sns_topic.verification.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id
  policy    = data.aws_iam_policy_document.dead_letter.json
}

resource "aws_sns_topic" "verification" {
  name              = "${var.name}-verification"
  kms_master_key_id = "alias/aws/sns"
  tags              = var.tags
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "Publisher"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.verification.arn]

    principals {
      type        = "AWS"
      identifiers = [var.publisher_role_arn]
    }
  }
}

resource "aws_sns_topic_policy" "verification" {
  arn    = aws_sns_topic.verification.arn
  policy = data.aws_iam_policy_document.topic.json
}

resource "aws_lambda_permission" "topic" {
  statement_id  = "VerificationTopic"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.verifier.function_name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.verification.arn
}

resource "aws_sns_topic_subscription" "verifier" {
  topic_arn      = aws_sns_topic.verification.arn
  protocol       = "lambda"
  endpoint       = aws_lambda_function.verifier.arn
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letter.arn })

  depends_on = [aws_lambda_permission.topic, aws_sqs_queue_policy.dead_letter]
}
