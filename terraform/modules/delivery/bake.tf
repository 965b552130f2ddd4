# What Packer does: look around, launch one instance with a key and a security group of its own, make an image of it, remove the rest.
data "aws_iam_policy_document" "bake" {
  # None of these can be limited to resources.
  statement {
    sid = "Look"
    actions = [
      "ec2:DescribeImageAttribute",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstanceTypeOfferings",
      "ec2:DescribeInstances",
      "ec2:DescribeKeyPairs",
      "ec2:DescribeRegions",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSnapshots",
      "ec2:DescribeSubnets",
      "ec2:DescribeTags",
      "ec2:DescribeVolumes",
      "ec2:DescribeVpcs",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "LaunchFromDebian"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:Owner"
      values   = [var.source_image_owner]
    }
  }

  # The last gate is an instance of the new image.
  statement {
    sid       = "LaunchFromOwn"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:Owner"
      values   = [var.account_id]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.image_project]
    }
  }

  statement {
    sid       = "LaunchTagged"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}:${var.account_id}:instance/*", "${local.ec2}:${var.account_id}:volume/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.image_project]
    }
  }

  # No role is passed on: the builder can reach nothing of AWS.
  statement {
    sid     = "LaunchInto"
    actions = ["ec2:RunInstances"]
    resources = [
      "${local.ec2}:${var.account_id}:key-pair/packer_*",
      "${local.ec2}:${var.account_id}:network-interface/*",
      "${local.ec2}:${var.account_id}:security-group/*",
      "${local.ec2}:${var.account_id}:subnet/*",
    ]
  }

  statement {
    sid       = "TagWhatIsMade"
    actions   = ["ec2:CreateTags"]
    resources = [for kind in ["instance", "key-pair", "security-group", "volume"] : "${local.ec2}:${var.account_id}:${kind}/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateKeyPair", "CreateSecurityGroup", "RunInstances"]
    }
  }

  statement {
    sid       = "Key"
    actions   = ["ec2:CreateKeyPair", "ec2:DeleteKeyPair"]
    resources = ["${local.ec2}:${var.account_id}:key-pair/packer_*"]
  }

  # Packer tells nobody which group is its own until it has made it: those of the project's stack, and of any other that tags
  # its groups with a Project, are out of reach.
  statement {
    sid       = "SecurityGroup"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:CreateSecurityGroup", "ec2:DeleteSecurityGroup"]
    resources = ["${local.ec2}:${var.account_id}:security-group-rule/*", "${local.ec2}:${var.account_id}:security-group/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/ManagedBy"
      values   = ["true"]
    }
  }

  statement {
    sid       = "SecurityGroupIn"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = ["${local.ec2}:${var.account_id}:vpc/*"]
  }

  statement {
    sid = "Builder"
    actions = [
      "ec2:CreateImage",
      "ec2:ModifyInstanceAttribute",
      "ec2:StopInstances",
      "ec2:TerminateInstances",
    ]
    resources = ["${local.ec2}:${var.account_id}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.image_project]
    }
  }

  statement {
    sid       = "Image"
    actions   = ["ec2:CreateImage"]
    resources = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*"]
  }

  # Packer tags an image and its snapshot when they are there. What has a project's tag already keeps it.
  statement {
    sid       = "TagImage"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.image_project]
    }

    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:ResourceTag/Project"
      values   = [var.image_project]
    }
  }

  # What has passed the gates is tagged with what they found.
  statement {
    sid       = "TagOwnImage"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}::image/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.image_project]
    }

    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:RequestTag/Project"
      values   = [var.image_project]
    }
  }

  # A build that fails takes its image along.
  statement {
    sid       = "RemoveImage"
    actions   = ["ec2:DeleteSnapshot", "ec2:DeregisterImage"]
    resources = ["${local.ec2}::image/*", "${local.ec2}::snapshot/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.image_project]
    }
  }
}
