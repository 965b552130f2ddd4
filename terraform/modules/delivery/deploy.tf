# What a rollout does: a new version of one launch template, an instance refresh of one group, and a look at how it goes.
data "aws_iam_policy_document" "deploy" {
  # None of these can be limited to resources.
  statement {
    sid = "Look"
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeInstanceRefreshes",
      "autoscaling:DescribeLifecycleHooks",
      "autoscaling:DescribeScalingActivities",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:GetMetricData",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeSnapshots",
      "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeTags",
      "elasticloadbalancing:DescribeTargetGroupAttributes",
      "elasticloadbalancing:DescribeTargetGroups",
      "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = ["*"]
  }

  statement {
    sid = "Refresh"
    actions = [
      "autoscaling:CancelInstanceRefresh",
      "autoscaling:RollbackInstanceRefresh",
      "autoscaling:StartInstanceRefresh",
    ]
    resources = [var.autoscaling_group_arn]
  }

  statement {
    sid       = "Version"
    actions   = ["ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplateVersions"]
    resources = [var.launch_template_arn]
  }

  # Auto Scaling lets only those choose a template's version who could launch from it themselves: from this template, and with
  # its own image and security groups.
  statement {
    sid     = "LaunchFromTemplate"
    actions = ["ec2:RunInstances"]
    resources = [
      var.launch_template_arn,
      "${local.ec2}:${var.account_id}:instance/*",
      "${local.ec2}:${var.account_id}:network-interface/*",
      "${local.ec2}:${var.account_id}:subnet/*",
      "${local.ec2}:${var.account_id}:volume/*",
    ]

    condition {
      test     = "ArnEquals"
      variable = "ec2:LaunchTemplate"
      values   = [var.launch_template_arn]
    }
  }

  statement {
    sid       = "LaunchWithoutOverride"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}::image/*", "${local.ec2}:${var.account_id}:security-group/*"]

    condition {
      test     = "ArnEquals"
      variable = "ec2:LaunchTemplate"
      values   = [var.launch_template_arn]
    }

    condition {
      test     = "Bool"
      variable = "ec2:IsLaunchTemplateResource"
      values   = ["true"]
    }
  }

  statement {
    sid       = "TagWhatIsLaunched"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:${var.account_id}:instance/*", "${local.ec2}:${var.account_id}:volume/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }
  }

  statement {
    sid       = "PassInstanceRole"
    actions   = ["iam:PassRole"]
    resources = [var.instance_role_arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com"]
    }
  }

  # The images that another project bakes are that one's to remove.
  dynamic "statement" {
    for_each = var.image_project == var.name ? ["RemoveOldImages"] : []

    content {
      sid       = statement.value
      actions   = ["ec2:DeleteSnapshot", "ec2:DeregisterImage"]
      resources = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*"]

      condition {
        test     = "StringEquals"
        variable = "aws:ResourceTag/Project"
        values   = [var.image_project]
      }
    }
  }
}
