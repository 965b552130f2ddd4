variable "name" {
  description = "Project name: the prefix of every resource's name."
  type        = string
  default     = "evenkeel"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "Set name to 2 to 20 lower-case letters, digits or hyphens, starting with a letter and not ending with a hyphen: load balancer names allow 32 characters in all."
  }
}

variable "tags" {
  description = "Tags added to every resource, besides Project and ManagedBy."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "Rename the tags that start with \"aws:\": AWS reserves that prefix."
  }
}

variable "vpc_cidr" {
  description = "IPv4 range of the VPC. Each zone and tier takes one sixteenth of it."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "Set vpc_cidr to a network address between /16 and /22 without host bits, such as 10.20.0.0/16."
  }
}

variable "zones" {
  description = "Availability zones to spread over. Null takes a, b and c of the provider's region."
  type        = list(string)
  default     = null

  validation {
    condition     = var.zones == null ? true : length(distinct(var.zones)) == 3 && length(var.zones) == 3
    error_message = "Name three different zones of the provider's region, such as [\"us-east-1a\", \"us-east-1b\", \"us-east-1c\"], or leave zones out."
  }
}

variable "image_id" {
  description = "AMI that the fleet starts from. Later images reach the fleet by rollouts, so a change here changes nothing."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-z]{8,}$", var.image_id))
    error_message = "Set image_id to the id of a baked image, such as ami-0123456789abcdef0. Aliases (resolve:ssm:...) can't be rolled back."
  }
}

variable "instance_type" {
  description = "EC2 instance type of the fleet."
  type        = string
  default     = "t3.small"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "Set instance_type to an EC2 instance type, such as t3.small."
  }
}

variable "fleet" {
  description = "Capacity of the Auto Scaling group, and the seconds a new instance has before health counts (grace) and before its metrics do (warmup)."
  type = object({
    min                  = optional(number, 3)
    max                  = optional(number, 6)
    desired              = optional(number, 3)
    grace_period_seconds = optional(number, 120)
    warmup_seconds       = optional(number, 30)
  })
  default = {}

  validation {
    condition     = var.fleet.min >= 1 && var.fleet.min <= var.fleet.desired && var.fleet.desired <= var.fleet.max
    error_message = "Set fleet so that 1 <= min <= desired <= max."
  }

  validation {
    condition     = var.fleet.grace_period_seconds >= 0 && var.fleet.warmup_seconds >= 0
    error_message = "Set fleet.grace_period_seconds and fleet.warmup_seconds to 0 or more seconds."
  }
}

variable "drain_seconds" {
  description = "Seconds that requests under way have to end when an instance leaves the fleet. Everything that waits follows from it: the target group's deregistration delay, the service's own stop, the lifecycle hook's timeout."
  type        = number
  default     = 30

  validation {
    condition     = var.drain_seconds >= 5 && var.drain_seconds <= 60 && floor(var.drain_seconds) == var.drain_seconds
    error_message = "Set drain_seconds to a whole number of seconds from 5 to 60: longer than the service's longest request, and within what its units allow for stopping."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that hear of the verification side channel's alarms and of their end."
  type        = list(string)
  default     = []
}

variable "mail_events_key" {
  description = "Verification key of SendGrid's signed event webhook; empty, no events are taken."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9+/]{80,}=*)?$", var.mail_events_key))
    error_message = "Set mail_events_key to the key as SendGrid shows it: one line of base64."
  }
}

variable "rate_limits" {
  description = "How often what may be asked of one process of the service, such as \"20/minute\" or \"5/minute,60/hour\"; \"\" for no limit. By client: signup, resend, verify, login (refused passwords alone). By mail address: mail (what may send one), login_address. Fleet-wide, as many times more as there are processes."
  type = object({
    signup        = optional(string, "20/minute")
    resend        = optional(string, "10/minute")
    verify        = optional(string, "60/minute")
    login         = optional(string, "30/minute")
    mail          = optional(string, "5/hour")
    login_address = optional(string, "100/hour")
  })
  default = {}

  validation {
    condition     = alltrue([for limit in values(var.rate_limits) : can(regex("^$|^[1-9][0-9]{0,5}/([1-9][0-9]{0,2})?(second|minute|hour|day)(,[1-9][0-9]{0,5}/([1-9][0-9]{0,2})?(second|minute|hour|day))*$", limit))])
    error_message = "Set each of rate_limits to a number by time, such as \"20/minute\" or \"5/15minute,100/day\", or to \"\" for no limit."
  }
}

variable "rollout_alarms" {
  description = "What stops a rollout: server errors answered by the service, and by the load balancer in its place, in one minute; seconds that the slowest hundredth of requests takes, two minutes long."
  type = object({
    service_errors  = optional(number, 10)
    balancer_errors = optional(number, 10)
    slow_seconds    = optional(number, 2)
  })
  default = {}

  validation {
    condition     = var.rollout_alarms.service_errors >= 1 && var.rollout_alarms.balancer_errors >= 1
    error_message = "Set rollout_alarms.service_errors and rollout_alarms.balancer_errors to 1 or more errors a minute: at 0 the alarm would never be silent."
  }

  validation {
    condition     = var.rollout_alarms.slow_seconds > 0 && var.rollout_alarms.slow_seconds <= 60
    error_message = "Set rollout_alarms.slow_seconds to more than 0 and at most 60 seconds, after which the load balancer gives up by itself."
  }
}

variable "database" {
  description = "RDS PostgreSQL: instance class, storage in GiB, a standby in another zone or none, engine version, days of backups."
  type = object({
    instance_class        = optional(string, "db.t4g.small")
    allocated_storage     = optional(number, 20)
    multi_az              = optional(bool, true)
    engine_version        = optional(string, "17")
    backup_retention_days = optional(number, 7)
  })
  default = {}

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database.instance_class))
    error_message = "Set database.instance_class to an RDS instance class, such as db.t4g.small."
  }

  validation {
    condition     = var.database.allocated_storage >= 20 && var.database.allocated_storage <= 65536
    error_message = "Set database.allocated_storage to 20 to 65536 GiB, the range of gp3 storage."
  }

  validation {
    condition     = can(regex("^17(\\.[0-9]+)?$", var.database.engine_version))
    error_message = "Set database.engine_version to 17 or one of its minor versions, such as 17.5."
  }

  validation {
    condition     = var.database.backup_retention_days >= 1 && var.database.backup_retention_days <= 35
    error_message = "Set database.backup_retention_days to 1 to 35 days. 0 would switch point-in-time recovery off."
  }
}

variable "http_port" {
  description = "Port on which the load balancer serves HTTP."
  type        = number
  default     = 80

  validation {
    condition     = var.http_port >= 1 && var.http_port <= 65535 && floor(var.http_port) == var.http_port
    error_message = "Set http_port to a whole number from 1 to 65535."
  }
}

variable "client_cidrs" {
  description = "IPv4 ranges whose clients may reach the load balancer."
  type        = set(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "Set client_cidrs to one or more IPv4 ranges, such as [\"203.0.113.0/24\"]."
  }
}

variable "public_url" {
  description = "Address of the service in its mails' links, without a trailing slash. Null takes the load balancer's own name."
  type        = string
  default     = null

  validation {
    condition     = var.public_url == null ? true : can(regex("^https?://[^/\\s]+$", var.public_url))
    error_message = "Set public_url to scheme and host without a trailing slash, such as https://signup.example.com, or leave it out."
  }
}

variable "mail_from" {
  description = "Sender's address of the verification mails, one that SendGrid has verified."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.mail_from))
    error_message = "Set mail_from to a plain address, such as no-reply@example.com."
  }
}

variable "sendgrid_api_key" {
  description = "SendGrid API key, written to Secrets Manager and kept in no state or plan. Give it as TF_VAR_sendgrid_api_key."
  type        = string
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = length(trimspace(var.sendgrid_api_key)) > 0
    error_message = "Set TF_VAR_sendgrid_api_key to a SendGrid API key with the Mail Send permission."
  }
}

variable "sendgrid_api_key_version" {
  description = "Raise it by one to write a changed sendgrid_api_key: Terraform keeps no copy to compare with."
  type        = number
  default     = 1

  validation {
    condition     = var.sendgrid_api_key_version >= 1 && floor(var.sendgrid_api_key_version) == var.sendgrid_api_key_version
    error_message = "Set sendgrid_api_key_version to a whole number, 1 or more."
  }
}

variable "sendgrid_host" {
  description = "Base URL of SendGrid's v3 API."
  type        = string
  default     = "https://api.sendgrid.com"

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.sendgrid_host))
    error_message = "Set sendgrid_host to scheme and host without a trailing slash, such as https://api.eu.sendgrid.com."
  }
}

variable "verifier_package" {
  description = "Path of the verifier's Lambda zip."
  type        = string

  validation {
    condition     = endswith(var.verifier_package, ".zip") && fileexists(var.verifier_package)
    error_message = "There is no zip file at verifier_package (${var.verifier_package}): build the verifier first, then give the path of its zip."
  }
}

variable "environment" {
  description = "Extra environment variables of the instances and of the function; they win over the computed ones."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", key))])
    error_message = "Name environment variables in upper case, such as SIGNUP_LOG_LEVEL."
  }

  validation {
    condition     = alltrue([for value in values(var.environment) : can(regex("^[^\\s\"'\\\\$#]*$", value))])
    error_message = "Remove blanks, quotes, backslashes, $ and # from the values in environment: systemd and shells read them differently."
  }

  validation {
    condition = alltrue([
      for key in keys(var.environment) :
      !startswith(key, "AWS_LAMBDA_") && !contains(["AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"], key)
    ])
    error_message = "Remove credentials, region and AWS_LAMBDA_ variables from environment: Lambda sets them itself, and instances have a role."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["SIGNUP_AUTOSCALING_GROUP", "SIGNUP_DRAIN_HOOK", "SIGNUP_DRAIN_SECONDS"])) == 0
    error_message = "Remove SIGNUP_AUTOSCALING_GROUP, SIGNUP_DRAIN_HOOK and SIGNUP_DRAIN_SECONDS from environment: they follow from name and drain_seconds."
  }
}

variable "deletion_protection" {
  description = "Protect what holds data or serves: no deletion of load balancer, database and token table, a final snapshot, 30 days to restore the secret, no removal of a bucket that holds objects."
  type        = bool
  default     = true
}

variable "repository" {
  description = "GitHub repository whose workflows bake, deploy and plan: names and ids, the branch that bakes, the environments that deploy here, the Project tag of its images (null: name), the account's OIDC provider where another stack made it. Null makes no roles for workflows."
  type = object({
    owner         = string
    owner_id      = number
    name          = string
    id            = number
    branch        = optional(string, "main")
    environments  = optional(set(string), ["production"])
    image_project = optional(string)
    provider_arn  = optional(string)
  })
  default = null

  validation {
    condition     = var.repository == null ? true : can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", "${var.repository.owner}/${var.repository.name}"))
    error_message = "Set repository.owner and repository.name as in https://github.com/OWNER/NAME."
  }

  validation {
    condition     = var.repository == null ? true : alltrue([for id in [var.repository.owner_id, var.repository.id] : id >= 1 && floor(id) == id])
    error_message = "Set repository.owner_id and repository.id to GitHub's numbers: gh api repos/OWNER/NAME --jq '.owner.id, .id'."
  }

  validation {
    condition     = var.repository == null ? true : length(var.repository.environments) > 0 && alltrue([for name in var.repository.environments : can(regex("^[A-Za-z0-9_-]+$", name))])
    error_message = "Set repository.environments to the exact names of the GitHub environments that deploy to this stack, without a wildcard."
  }
}
