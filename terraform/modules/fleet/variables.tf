variable "name" {
  description = "Prefix of the resources' names."
  type        = string

  validation {
    condition     = length(var.name) > 0
    error_message = "Set name to the project's name."
  }
}

variable "region" {
  description = "Region that the service talks to."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Set region to an AWS region, such as us-east-1."
  }
}

variable "vpc_id" {
  description = "VPC of the fleet."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Set vpc_id to a VPC's id (vpc-...)."
  }
}

variable "subnet_ids" {
  description = "App subnets, one for each zone."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Give subnets in two zones at least, so that the fleet outlives one."
  }
}

variable "image_id" {
  description = "AMI of the launch template's first version."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-z]{8,}$", var.image_id))
    error_message = "Set image_id to the id of a baked image, such as ami-0123456789abcdef0. Aliases (resolve:ssm:...) can't be rolled back."
  }
}

variable "instance_type" {
  description = "EC2 instance type."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "Set instance_type to an EC2 instance type, such as t3.small."
  }
}

variable "capacity" {
  description = "Number of instances: least, most, wanted."
  type = object({
    min     = number
    max     = number
    desired = number
  })

  validation {
    condition     = var.capacity.min >= 1 && var.capacity.min <= var.capacity.desired && var.capacity.desired <= var.capacity.max
    error_message = "Set capacity so that 1 <= min <= desired <= max."
  }
}

variable "grace_period_seconds" {
  description = "Seconds from launch in which a failing health check replaces nothing: boot and migration must fit in."
  type        = number

  validation {
    condition     = var.grace_period_seconds >= 0 && floor(var.grace_period_seconds) == var.grace_period_seconds
    error_message = "Set grace_period_seconds to a whole number of seconds, 0 or more."
  }
}

variable "warmup_seconds" {
  description = "Seconds in service after which an instance counts in rollouts and metrics."
  type        = number

  validation {
    condition     = var.warmup_seconds >= 0 && floor(var.warmup_seconds) == var.warmup_seconds
    error_message = "Set warmup_seconds to a whole number of seconds, 0 or more."
  }
}

variable "drain_seconds" {
  description = "Seconds that requests under way have to end when an instance leaves: what the service is given to stop in, and what the hook's heartbeat timeout follows from."
  type        = number

  validation {
    condition     = var.drain_seconds >= 5 && var.drain_seconds <= 60 && floor(var.drain_seconds) == var.drain_seconds
    error_message = "Set drain_seconds to a whole number of seconds from 5 to 60: longer than the service's longest request, and within what its units allow for stopping."
  }
}

variable "root_volume" {
  description = "Root volume: the image's device name and the size in GiB."
  type = object({
    device_name = optional(string, "/dev/xvda")
    size        = optional(number, 8)
  })
  default = {}

  validation {
    condition     = startswith(var.root_volume.device_name, "/dev/") && var.root_volume.size >= 8
    error_message = "Set root_volume.device_name to the image's root device (/dev/xvda on Debian) and size to 8 GiB or more."
  }
}

variable "load_balancer_security_group_id" {
  description = "Security group of the load balancer, the only way in."
  type        = string

  validation {
    condition     = startswith(var.load_balancer_security_group_id, "sg-")
    error_message = "Set load_balancer_security_group_id to a security group's id (sg-...)."
  }
}

variable "target_group_arn" {
  description = "Target group that instances join, and whose health checks replace them."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:elasticloadbalancing:", var.target_group_arn))
    error_message = "Set target_group_arn to a target group's ARN."
  }
}

variable "database" {
  description = "Where the database is, the secret with its credentials, and its security group."
  type = object({
    host              = string
    port              = number
    name              = string
    secret_arn        = string
    security_group_id = string
  })

  validation {
    condition     = can(regex("^arn:[^:]+:secretsmanager:", var.database.secret_arn))
    error_message = "Set database.secret_arn to a Secrets Manager secret's ARN."
  }
}

variable "topic_arn" {
  description = "SNS topic that the outbox publishes to."
  type        = string

  validation {
    condition     = can(regex("^arn:[^:]+:sns:", var.topic_arn))
    error_message = "Set topic_arn to an SNS topic's ARN."
  }
}

variable "token_table" {
  description = "DynamoDB table of the verification tokens."
  type = object({
    name = string
    arn  = string
  })

  validation {
    condition     = can(regex("^arn:[^:]+:dynamodb:", var.token_table.arn))
    error_message = "Set token_table.arn to a DynamoDB table's ARN."
  }
}

variable "mail_table" {
  description = "DynamoDB table of each mail's steps."
  type = object({
    name = string
    arn  = string
  })

  validation {
    condition     = can(regex("^arn:[^:]+:dynamodb:", var.mail_table.arn))
    error_message = "Set mail_table.arn to a DynamoDB table's ARN."
  }
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

variable "picture_bucket" {
  description = "S3 bucket of the profile pictures, and the prefix of their keys."
  type = object({
    name   = string
    arn    = string
    prefix = optional(string, "pictures/")
  })

  validation {
    condition     = can(regex("^arn:[^:]+:s3:::", var.picture_bucket.arn)) && can(regex("^[^/].*/$", var.picture_bucket.prefix))
    error_message = "Set picture_bucket.arn to a bucket's ARN, and prefix to one that ends with a slash."
  }
}

variable "public_url" {
  description = "Address of the service, without a trailing slash."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.public_url))
    error_message = "Set public_url to scheme and host without a trailing slash, such as https://signup.example.com."
  }
}

variable "metrics_namespace" {
  description = "CloudWatch namespace of the service's metrics."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._/#:-]{1,255}$", var.metrics_namespace)) && !startswith(var.metrics_namespace, "AWS/")
    error_message = "Set metrics_namespace to a namespace of your own, such as evenkeel/signup."
  }
}

variable "rate_limits" {
  description = "The service's rate limits for each of its processes; empty for none."
  type = object({
    signup        = string
    resend        = string
    verify        = string
    login         = string
    mail          = string
    login_address = string
  })
}

variable "environment" {
  description = "Extra variables of the service; they win over the computed ones."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for value in values(var.environment) : can(regex("^[^\\s\"'\\\\$#]*$", value))])
    error_message = "Remove blanks, quotes, backslashes, $ and # from the values in environment: systemd and shells read them differently."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["SIGNUP_AUTOSCALING_GROUP", "SIGNUP_DRAIN_HOOK", "SIGNUP_DRAIN_SECONDS"])) == 0
    error_message = "Remove SIGNUP_AUTOSCALING_GROUP, SIGNUP_DRAIN_HOOK and SIGNUP_DRAIN_SECONDS from environment: they follow from name and drain_seconds."
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
