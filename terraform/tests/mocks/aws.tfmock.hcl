# What AWS would compute, in AWS's own forms.
mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_region" {
  defaults = { name = "us-east-1" }
}

mock_data "aws_iam_policy_document" {
  defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
}

mock_resource "aws_vpc" {
  defaults = { id = "vpc-0a" }
}

mock_resource "aws_security_group" {
  defaults = { id = "sg-0a" }
}

mock_resource "aws_lb" {
  defaults = {
    arn        = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/app/t-edge/0a"
    arn_suffix = "app/t-edge/0a"
    dns_name   = "t-edge-1.us-east-1.elb.amazonaws.com"
  }
}

mock_resource "aws_lb_target_group" {
  defaults = {
    arn        = "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/t-fleet/0a"
    arn_suffix = "targetgroup/t-fleet/0a"
  }
}

mock_resource "aws_lb_listener" {
  defaults = { arn = "arn:aws:elasticloadbalancing:us-east-1:111122223333:listener/app/t-edge/0a/0b" }
}

mock_resource "aws_db_instance" {
  defaults = {
    address            = "t.c0ffee.us-east-1.rds.amazonaws.com"
    port               = 5432
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:rds!db-0a", kms_key_id = "", secret_status = "active" }]
  }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::111122223333:role/t" }
}

mock_resource "aws_iam_instance_profile" {
  defaults = { arn = "arn:aws:iam::111122223333:instance-profile/t-fleet" }
}

mock_resource "aws_launch_template" {
  defaults = {
    arn            = "arn:aws:ec2:us-east-1:111122223333:launch-template/lt-0a"
    id             = "lt-0a"
    latest_version = 1
  }
}

mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com" }
}

mock_resource "aws_autoscaling_group" {
  defaults = { arn = "arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:0a:autoScalingGroupName/t-fleet" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:us-east-1:111122223333:t-verification" }
}

mock_resource "aws_sqs_queue" {
  defaults = {
    arn = "arn:aws:sqs:us-east-1:111122223333:t-verification-dead-letter"
    id  = "https://sqs.us-east-1.amazonaws.com/111122223333/t-verification-dead-letter"
  }
}

mock_resource "aws_lambda_function" {
  defaults = { arn = "arn:aws:lambda:us-east-1:111122223333:function:t-verifier" }
}

mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws:dynamodb:us-east-1:111122223333:table/t-token" }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = {
    arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:t/sendgrid-api-key-0a"
    id  = "arn:aws:secretsmanager:us-east-1:111122223333:secret:t/sendgrid-api-key-0a"
  }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:111122223333:log-group:/aws/lambda/t-verifier" }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::t-pictures" }
}
