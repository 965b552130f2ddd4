variable "name" {
  description = "Prefix of the roles' names."
  type        = string

  validation {
    condition     = length(var.name) > 0
    error_message = "Set name to the project's name."
  }
}

variable "partition" {
  description = "Partition of AWS, the second part of every ARN."
  type        = string
  default     = "aws"

  validation {
    condition     = can(regex("^aws(-[a-z]+)*$", var.partition))
    error_message = "Set partition to aws, aws-cn, aws-us-gov or another partition of AWS."
  }
}

variable "region" {
  description = "Region in which images are baked and rolled out."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Set region to an AWS region, such as us-east-1."
  }
}

variable "account_id" {
  description = "Account of the stack."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "Set account_id to the twelve digits of an AWS account."
  }
}

variable "repository" {
  description = "GitHub repository whose workflows get the roles: names and ids, the branch that bakes, the environments that deploy, and the account's OIDC provider where another stack made it."
  type = object({
    owner        = string
    owner_id     = number
    name         = string
    id           = number
    branch       = optional(string, "main")
    environments = optional(set(string), ["production"])
    provider_arn = optional(string)
  })

  # IAM compares subjects character by character, but reads ${ as a policy variable; and * or ? are a mistake in any case.
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*$", var.repository.owner)) && can(regex("^[A-Za-z0-9._-]+$", var.repository.name))
    error_message = "Set repository.owner and repository.name as in https://github.com/OWNER/NAME."
  }

  validation {
    condition     = alltrue([for id in [var.repository.owner_id, var.repository.id] : id >= 1 && floor(id) == id])
    error_message = "Set repository.owner_id and repository.id to GitHub's numbers: gh api repos/OWNER/NAME --jq '.owner.id, .id'."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.repository.branch))
    error_message = "Set repository.branch to the one branch that releases come from, such as main."
  }

  validation {
    condition     = length(var.repository.environments) > 0 && alltrue([for name in var.repository.environments : can(regex("^[A-Za-z0-9_-]+$", name))])
    error_message = "Set repository.environments to the exact names of the GitHub environments that deploy to this stack, without a wildcard."
  }

  validation {
    condition     = var.repository.provider_arn == null ? true : can(regex("^arn:[^:]+:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.repository.provider_arn))
    error_message = "Set repository.provider_arn to the account's OIDC provider for token.actions.githubusercontent.com, or leave it out to make one."
  }
}

variable "autoscaling_group_arn" {
  description = "Auto Scaling group that rollouts refresh."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:autoscaling:", var.autoscaling_group_arn))
    error_message = "Set autoscaling_group_arn to an Auto Scaling group's ARN."
  }
}

variable "launch_template_arn" {
  description = "Launch template that rollouts add versions to."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:ec2:[^:]+:[0-9]+:launch-template/lt-", var.launch_template_arn))
    error_message = "Set launch_template_arn to a launch template's ARN."
  }
}

variable "instance_role_arn" {
  description = "Role of the instances, which a rollout passes on."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:iam::[0-9]{12}:role/", var.instance_role_arn))
    error_message = "Set instance_role_arn to a role's ARN."
  }
}

variable "image_project" {
  description = "Value of the images' Project tag: the name they are baked under, which several stacks may share."
  type        = string

  validation {
    condition     = length(var.image_project) > 0
    error_message = "Set image_project to the name that packer/ bakes images under."
  }
}

variable "source_image_owner" {
  description = "Account whose images are baked upon."
  type        = string
  default     = "136693071363" # Debian

  validation {
    condition     = can(regex("^[0-9]{12}$", var.source_image_owner))
    error_message = "Set source_image_owner to the twelve digits of an AWS account."
  }
}

variable "state" {
  description = "Bucket and key of this stack's Terraform state."
  type = object({
    bucket = string
    key    = string
  })

  validation {
    condition     = alltrue([for part in [var.state.bucket, var.state.key] : can(regex("^[A-Za-z0-9._/-]+$", part))])
    error_message = "Set state to the bucket and key of Terraform's S3 backend."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.tags), "Name")
    error_message = "Remove Name from tags: each resource has a name of its own."
  }
}
