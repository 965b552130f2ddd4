# A pull request's own code runs with this role, so it reads the state and the list of images, and nothing that runs: the plan
# compares the code with the state (-refresh=false), which holds no secret.
data "aws_iam_policy_document" "plan" {
  statement {
    sid       = "State"
    actions   = ["s3:GetObject"]
    resources = ["arn:${var.partition}:s3:::${var.state.bucket}/${var.state.key}"]
  }

  statement {
    sid       = "StateBucket"
    actions   = ["s3:ListBucket"]
    resources = ["arn:${var.partition}:s3:::${var.state.bucket}"]
  }

  statement {
    sid       = "Images"
    actions   = ["ec2:DescribeImages"]
    resources = ["*"]
  }
}
