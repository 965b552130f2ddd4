variable "name" {
  description = "Prefix of the resources' names."
  type        = string

  validation {
    condition     = length(var.name) > 0
    error_message = "Set name to the project's name."
  }
}

variable "package" {
  description = "Path of the verifier's zip."
  type        = string

  validation {
    condition     = endswith(var.package, ".zip") && fileexists(var.package)
    error_message = "There is no zip file at package (${var.package}): build the verifier first, then give the path of its zip."
  }
}

variable "publisher_role_arn" {
  description = "The one role that may publish to the topic."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:iam::[0-9]+:role/", var.publisher_role_arn))
    error_message = "Set publisher_role_arn to a role's ARN."
  }
}

variable "public_url" {
  description = "Address of the service in the mails' links, without a trailing slash."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.public_url))
    error_message = "Set public_url to scheme and host without a trailing slash, such as https://signup.example.com."
  }
}

variable "mail_from" {
  description = "Sender's address of the mails."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.mail_from))
    error_message = "Set mail_from to a plain address, such as no-reply@example.com."
  }
}

variable "token_lifetime_seconds" {
  description = "Seconds in which a link works."
  type        = number
  default     = 600

  validation {
    condition     = var.token_lifetime_seconds >= 60 && var.token_lifetime_seconds <= 86400
    error_message = "Set token_lifetime_seconds to 60 to 86400 seconds."
  }
}

variable "sendgrid_api_key" {
  description = "SendGrid API key; written to its secret, kept in no state or plan."
  type        = string
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = length(trimspace(var.sendgrid_api_key)) > 0
    error_message = "Set sendgrid_api_key to a SendGrid API key with the Mail Send permission."
  }
}

variable "sendgrid_api_key_version" {
  description = "Raised by one whenever sendgrid_api_key changed."
  type        = number

  validation {
    condition     = var.sendgrid_api_key_version >= 1 && floor(var.sendgrid_api_key_version) == var.sendgrid_api_key_version
    error_message = "Set sendgrid_api_key_version to a whole number, 1 or more."
  }
}

variable "sendgrid_host" {
  description = "Base URL of SendGrid's v3 API."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.sendgrid_host))
    error_message = "Set sendgrid_host to scheme and host without a trailing slash, such as https://api.sendgrid.com."
  }
}

variable "sendgrid_timeout_seconds" {
  description = "Seconds the function waits for SendGrid before the attempt counts as failed."
  type        = number
  default     = 8

  validation {
    condition     = var.sendgrid_timeout_seconds >= 1 && var.sendgrid_timeout_seconds <= 12
    error_message = "Set sendgrid_timeout_seconds to 1 to 12 seconds: the function ends after 30, and asks twice when the key was replaced."
  }
}

variable "late_seconds" {
  description = "Seconds from a signup to its mail that raise the alarm late, and of a message in Lambda's queue that raise the alarm waiting."
  type        = number
  default     = 600

  validation {
    condition     = var.late_seconds >= 1
    error_message = "Set late_seconds to 1 second or more."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of alarms and of their end."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[^:]+:sns:", arn))])
    error_message = "Set alarm_topic_arns to the ARNs of SNS topics."
  }
}

variable "environment" {
  description = "Extra variables of the function; they win over the computed ones."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", key))])
    error_message = "Name environment variables in upper case, such as VERIFIER_LOG_LEVEL."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the token table, and keep a deleted secret restorable for 30 days."
  type        = bool
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
