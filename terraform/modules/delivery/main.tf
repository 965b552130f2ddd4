locals {
  issuer = "token.actions.githubusercontent.com"

  # GitHub names a repository by owner and name alone, or, in repositories created since July 2026, with their ids too, which
  # nobody else can get by taking over a name.
  subjects = [
    "repo:${var.repository.owner}/${var.repository.name}",
    "repo:${var.repository.owner}@${var.repository.owner_id}/${var.repository.name}@${var.repository.id}",
  ]

  # What a job's token must be for to get each role.
  contexts = {
    bake   = ["ref:refs/heads/${var.repository.branch}"]
    deploy = [for environment in var.repository.environments : "environment:${environment}"]
    plan   = ["pull_request"]
  }

  policies = {
    bake   = data.aws_iam_policy_document.bake.json
    deploy = data.aws_iam_policy_document.deploy.json
    plan   = data.aws_iam_policy_document.plan.json
  }

  descriptions = {
    bake   = "Bakes images of ${var.name} from the repository's ${var.repository.branch}"
    deploy = "Rolls images out to ${var.name}"
    plan   = "Shows what Terraform would change in ${var.name}"
  }

  ec2 = "arn:${var.partition}:ec2:${var.region}"
}

# An account has one provider for each issuer: a second stack in it takes the first one's.
resource "aws_iam_openid_connect_provider" "github" {
  for_each = toset(var.repository.provider_arn == null ? [local.issuer] : [])

  url            = "https://${each.value}"
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

data "aws_iam_policy_document" "trust" {
  for_each = local.contexts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [coalesce(var.repository.provider_arn, one(values(aws_iam_openid_connect_provider.github)[*].arn))]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    # Never by pattern: a wildcard in a subject lets in what was not thought of.
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for pair in setproduct(local.subjects, each.value) : join(":", pair)]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.contexts

  name                 = "${var.name}-${each.key}"
  description          = local.descriptions[each.key]
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 7200
  tags                 = var.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = each.value
}
