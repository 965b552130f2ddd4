variable "name" {
  description = "Prefix of the resources' names."
  type        = string

  validation {
    condition     = length(var.name) > 0
    error_message = "Set name to the project's name."
  }
}

variable "cidr" {
  description = "IPv4 range of the VPC; a subnet takes one sixteenth of it."
  type        = string

  validation {
    condition     = try(cidrsubnet(var.cidr, 0, 0) == var.cidr, false) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 22, false)
    error_message = "Set cidr to a network address between /16 and /22 without host bits, such as 10.20.0.0/16."
  }
}

variable "region" {
  description = "Region of the VPC, part of the gateway endpoints' service names."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Set region to an AWS region, such as us-east-1."
  }
}

variable "zones" {
  description = "Availability zones. The order decides the subnets' ranges: append, never reorder."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name two to four different zones: each tier has room for four subnets."
  }

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^${var.region}[a-z]$", zone))])
    error_message = "Name zones of ${var.region}, such as ${var.region}a."
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
