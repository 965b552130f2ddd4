variable "name" {
  description = "Prefix of the resources' names."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.name))
    error_message = "Set name to lower-case letters, digits and hyphens, starting with a letter."
  }
}

variable "vpc_id" {
  description = "VPC of the database."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Set vpc_id to a VPC's id (vpc-...)."
  }
}

variable "subnet_ids" {
  description = "Database subnets, one for each zone."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Give subnets in two zones at least: RDS needs them, and so does a standby."
  }
}

variable "client_security_group_id" {
  description = "The one security group whose members may connect."
  type        = string

  validation {
    condition     = startswith(var.client_security_group_id, "sg-")
    error_message = "Set client_security_group_id to a security group's id (sg-...)."
  }
}

variable "instance_class" {
  description = "RDS instance class."
  type        = string

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "Set instance_class to an RDS instance class, such as db.t4g.small."
  }
}

variable "allocated_storage" {
  description = "Storage in GiB."
  type        = number

  validation {
    condition     = var.allocated_storage >= 20 && var.allocated_storage <= 65536
    error_message = "Set allocated_storage to 20 to 65536 GiB, the range of gp3 storage."
  }
}

variable "multi_az" {
  description = "Keep a synchronous standby in another zone."
  type        = bool
}

variable "engine_version" {
  description = "PostgreSQL version: the major version, or an exact minor one."
  type        = string

  validation {
    condition     = can(regex("^17(\\.[0-9]+)?$", var.engine_version))
    error_message = "Set engine_version to 17 or one of its minor versions: the parameter group is of family postgres17."
  }
}

variable "backup_retention_days" {
  description = "Days of automated backups."
  type        = number

  validation {
    condition     = var.backup_retention_days >= 1 && var.backup_retention_days <= 35
    error_message = "Set backup_retention_days to 1 to 35 days. 0 would switch point-in-time recovery off."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the database, and take a final snapshot when it goes."
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
