mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                  = "t"
  region                = "us-east-1"
  account_id            = "111122223333"
  repository            = { owner = "octo-org", owner_id = 123456, name = "octo.repo", id = 456789, environments = ["staging", "production"] }
  image_project         = "image"
  autoscaling_group_arn = "arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:0a:autoScalingGroupName/t-fleet"
  launch_template_arn   = "arn:aws:ec2:us-east-1:111122223333:launch-template/lt-0a"
  instance_role_arn     = "arn:aws:iam::111122223333:role/t-fleet"
  state                 = { bucket = "states", key = "t.tfstate" }
}

run "trusts_exact_subjects_in_both_forms" {
  module {
    source = "./modules/delivery"
  }

  assert {
    condition = {
      for role, document in data.aws_iam_policy_document.trust : role => {
        for condition in document.statement[0].condition : condition.variable => "${condition.test} ${join(" ", sort(condition.values))}"
      }
      } == {
      bake = {
        "token.actions.githubusercontent.com:aud" = "StringEquals sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = join(" ", [
          "StringEquals",
          "repo:octo-org/octo.repo:ref:refs/heads/main",
          "repo:octo-org@123456/octo.repo@456789:ref:refs/heads/main",
        ])
      }
      deploy = {
        "token.actions.githubusercontent.com:aud" = "StringEquals sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = join(" ", [
          "StringEquals",
          "repo:octo-org/octo.repo:environment:production",
          "repo:octo-org/octo.repo:environment:staging",
          "repo:octo-org@123456/octo.repo@456789:environment:production",
          "repo:octo-org@123456/octo.repo@456789:environment:staging",
        ])
      }
      plan = {
        "token.actions.githubusercontent.com:aud" = "StringEquals sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = join(" ", [
          "StringEquals",
          "repo:octo-org/octo.repo:pull_request",
          "repo:octo-org@123456/octo.repo@456789:pull_request",
        ])
      }
    }
    error_message = "Each role must trust its own jobs by exact subjects, in the form without ids and in the one with them."
  }

  assert {
    condition     = aws_iam_openid_connect_provider.github["token.actions.githubusercontent.com"].client_id_list == toset(["sts.amazonaws.com"])
    error_message = "Tokens for another audience must not be accepted."
  }

  assert {
    condition     = output.provider_arn == "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    error_message = "Other stacks of the account need the provider's ARN."
  }
}

run "takes_the_provider_of_another_stack" {
  module {
    source = "./modules/delivery"
  }

  variables {
    repository = {
      owner        = "octo-org"
      owner_id     = 123456
      name         = "octo.repo"
      id           = 456789
      provider_arn = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    }
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && output.provider_arn == var.repository.provider_arn
    error_message = "An account can't have the provider twice."
  }
}

run "deploy_changes_one_group_and_one_template" {
  module {
    source = "./modules/delivery"
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.deploy.statement : statement.sid => join(" ", sort(statement.resources))
      if !contains(["Look", "LaunchFromTemplate", "LaunchWithoutOverride", "TagWhatIsLaunched", "RemoveOldImages"], statement.sid)
      } == {
      Refresh          = var.autoscaling_group_arn
      Version          = var.launch_template_arn
      PassInstanceRole = var.instance_role_arn
    }
    error_message = "A deploy must reach its own group, template and role, and no other."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.deploy.statement :
      length(statement.condition) > 0 if anytrue([for resource in statement.resources : endswith(resource, "*")]) && statement.sid != "Look"
    ])
    error_message = "What can't be named beforehand must be bound by a condition."
  }
}

run "a_stack_removes_no_images_of_another_project" {
  module {
    source = "./modules/delivery"
  }

  assert {
    condition     = !contains(data.aws_iam_policy_document.deploy.statement[*].sid, "RemoveOldImages")
    error_message = "What several stacks run must not be removed by one that did not bake it."
  }
}

run "a_stack_removes_its_own_images" {
  module {
    source = "./modules/delivery"
  }

  variables {
    image_project = "t"
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.deploy.statement : one([for condition in statement.condition : one(condition.values)])
      if statement.sid == "RemoveOldImages"
    ] == ["t"]
    error_message = "Old images are known by the project's tag."
  }
}

run "only_looking_is_allowed_everywhere" {
  module {
    source = "./modules/delivery"
  }

  assert {
    condition = alltrue([
      for statement in concat(
        data.aws_iam_policy_document.bake.statement,
        data.aws_iam_policy_document.deploy.statement,
        data.aws_iam_policy_document.plan.statement,
      ) : alltrue([for action in statement.actions : can(regex(":(Describe|Get)[A-Za-z]+$", action))]) if contains(statement.resources, "*")
    ])
    error_message = "An action that changes something must name its resources."
  }

  assert {
    condition = !anytrue(flatten([
      for statement in concat(
        data.aws_iam_policy_document.bake.statement,
        data.aws_iam_policy_document.deploy.statement,
        data.aws_iam_policy_document.plan.statement,
      ) : [for action in statement.actions : strcontains(action, "*")]
    ]))
    error_message = "Actions must be named one by one."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.plan.statement : statement.sid => join(" ", statement.resources)
    } == { State = "arn:aws:s3:::states/t.tfstate", StateBucket = "arn:aws:s3:::states", Images = "*" }
    error_message = "A pull request's code may read the state and the images' list, and nothing else."
  }
}

run "bake_passes_no_role_and_touches_its_own" {
  module {
    source = "./modules/delivery"
  }

  assert {
    condition = !anytrue(flatten([
      for statement in data.aws_iam_policy_document.bake.statement : [for action in statement.actions : startswith(action, "iam:")]
    ]))
    error_message = "A builder must get no role."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.bake.statement :
      anytrue([for condition in statement.condition : contains(condition.values, "image")]) if contains(["Builder", "LaunchFromOwn", "LaunchTagged", "TagImage", "TagOwnImage", "RemoveImage"], statement.sid)
    ])
    error_message = "Instances and images must carry the project's tag to be touched."
  }
}

run "refuses_a_wildcard_for_a_repository" {
  command = plan

  module {
    source = "./modules/delivery"
  }

  variables {
    repository = { owner = "octo-org", owner_id = 1, name = "*", id = 2 }
  }

  expect_failures = [var.repository]
}

run "refuses_a_wildcard_for_an_environment" {
  command = plan

  module {
    source = "./modules/delivery"
  }

  variables {
    repository = { owner = "octo-org", owner_id = 1, name = "octo.repo", id = 2, environments = ["prod*"] }
  }

  expect_failures = [var.repository]
}
