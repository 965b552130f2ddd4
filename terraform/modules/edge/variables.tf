variable "name" {
  description = "Prefix of the resources' names."
  type        = string

  validation {
    condition     = length(var.name) > 0 && length(var.name) <= 26
    error_message = "Set name to at most 26 characters: load balancer and target group names end at 32."
  }
}

variable "vpc_id" {
  description = "VPC of the load balancer and its targets."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Set vpc_id to a VPC's id (vpc-...)."
  }
}

variable "subnet_ids" {
  description = "Public subnets, one for each zone."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Give subnets in two zones at least: a load balancer needs them."
  }
}

variable "http_port" {
  description = "Port of the HTTP listener."
  type        = number

  validation {
    condition     = var.http_port >= 1 && var.http_port <= 65535
    error_message = "Set http_port to a number from 1 to 65535."
  }
}

variable "client_cidrs" {
  description = "IPv4 ranges whose clients may reach the load balancer."
  type        = set(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "Set client_cidrs to one or more IPv4 ranges, such as [\"203.0.113.0/24\"]."
  }
}

variable "drain_seconds" {
  description = "Seconds that requests under way have to end at a target that is deregistered."
  type        = number

  validation {
    condition     = var.drain_seconds >= 5 && var.drain_seconds <= 60 && floor(var.drain_seconds) == var.drain_seconds
    error_message = "Set drain_seconds to a whole number of seconds from 5 to 60: longer than the service's longest request, and within what its units allow for stopping."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancer."
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
