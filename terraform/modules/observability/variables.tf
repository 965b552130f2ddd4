variable "name" {
  description = "Prefix of the alarms' names."
  type        = string

  validation {
    condition     = length(var.name) > 0
    error_message = "Set name to the project's name."
  }
}

variable "load_balancer_arn_suffix" {
  description = "The load balancer as CloudWatch names it."
  type        = string

  validation {
    condition     = startswith(var.load_balancer_arn_suffix, "app/")
    error_message = "Set load_balancer_arn_suffix to the end of an application load balancer's ARN, such as app/NAME/0123456789abcdef."
  }
}

variable "target_group_arn_suffix" {
  description = "The target group as CloudWatch names it."
  type        = string

  validation {
    condition     = startswith(var.target_group_arn_suffix, "targetgroup/")
    error_message = "Set target_group_arn_suffix to the end of a target group's ARN, such as targetgroup/NAME/0123456789abcdef."
  }
}

variable "rollout_alarms" {
  description = "Server errors of the service and of the load balancer in one minute, and seconds at the 99th percentile, that end a rollout."
  type = object({
    service_errors  = number
    balancer_errors = number
    slow_seconds    = number
  })

  validation {
    condition     = var.rollout_alarms.service_errors >= 1 && var.rollout_alarms.balancer_errors >= 1
    error_message = "Set service_errors and balancer_errors to 1 or more errors a minute."
  }

  validation {
    condition     = var.rollout_alarms.slow_seconds > 0
    error_message = "Set slow_seconds to more than 0 seconds."
  }
}

variable "region" {
  description = "Region whose metrics the dashboard shows."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Set region to a region's name, such as us-east-1."
  }
}

variable "metrics_namespace" {
  description = "CloudWatch namespace that the service's own metrics are in."
  type        = string

  validation {
    condition     = length(var.metrics_namespace) > 0
    error_message = "Set metrics_namespace to the one that the fleet is given."
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
