# Packer 1.6.6, which Debian ships, has no regex(): a value matches when regex_replace leaves nothing of it.
variable "region" {
  type        = string
  default     = "us-east-1"
  description = "AWS region to build in and to keep the image in."

  validation {
    condition     = var.region != "" && regex_replace(var.region, "^[a-z]{2}(-[a-z]+)+-[0-9]$", "") == ""
    error_message = "The region must be an AWS region such as us-east-1."
  }
}

variable "name" {
  type        = string
  default     = "evenkeel"
  description = "What the image's name begins with."

  validation {
    condition     = var.name != "" && regex_replace(var.name, "^[a-z][a-z0-9-]{1,31}$", "") == ""
    error_message = "The name must be 2 to 32 lower-case letters, digits and hyphens, and begin with a letter."
  }
}

variable "ec2_endpoint" {
  type        = string
  default     = ""
  description = "URL of the EC2 API where it is not AWS's own; empty on AWS."

  validation {
    condition     = regex_replace(var.ec2_endpoint, "^https?://.+$", "") == ""
    error_message = "The ec2_endpoint must be empty, or a URL that begins with http:// or https://."
  }
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "Type of the instance that the image is built on; the fleet chooses its own."

  validation {
    condition     = var.instance_type != "" && regex_replace(var.instance_type, "^[a-z0-9-]+[.][a-z0-9-]+$", "") == ""
    error_message = "The instance_type must be an EC2 instance type such as t3.small."
  }
}

variable "volume_size" {
  type        = number
  default     = 8
  description = "Size of the root volume in GiB."

  validation {
    condition     = var.volume_size >= 8
    error_message = "The volume_size must be at least 8 GiB, which is what Debian's image needs."
  }
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Public subnet to build in; empty for the account's default one."

  validation {
    condition     = regex_replace(var.subnet_id, "^subnet-[0-9a-f]+$", "") == ""
    error_message = "The subnet_id must be empty, or a subnet's id such as subnet-0123456789abcdef0."
  }
}

variable "ssh_source_cidrs" {
  type        = list(string)
  default     = ["0.0.0.0/0"]
  description = "Addresses that may reach the builder's SSH port while it lives. Hosted runners have no fixed one."

  validation {
    condition     = length(var.ssh_source_cidrs) > 0
    error_message = "The ssh_source_cidrs must hold at least one CIDR block, that of the machine Packer runs on."
  }
}

variable "source_ami_owner" {
  type        = string
  default     = "136693071363"
  description = "Account that publishes the base image; Debian's, see https://wiki.debian.org/Cloud/AmazonEC2Image."

  validation {
    condition     = var.source_ami_owner != "" && regex_replace(var.source_ami_owner, "^[0-9]{12}$", "") == ""
    error_message = "The source_ami_owner must be an AWS account id of twelve digits."
  }
}

variable "source_ami_name" {
  type        = string
  default     = "debian-13-amd64-*"
  description = "Name of the base image, with wildcards; the most recent one is taken."
}

variable "wheelhouse" {
  type        = string
  description = "Folder with the service's wheel, the wheels of all it needs and a hash-locked requirements.txt."

  validation {
    condition     = length(var.wheelhouse) > 0
    error_message = "The wheelhouse must be the folder of wheels to install; build it first."
  }
}

variable "service_version" {
  type        = string
  description = "Version of the signup service to install, as in its wheel's name."

  validation {
    condition     = var.service_version != "" && regex_replace(var.service_version, "^[0-9]+([.][0-9]+)*([a-z0-9.+]*)$", "") == ""
    error_message = "The service_version must be a version such as 1.2.3."
  }
}

variable "commit" {
  type        = string
  description = "Git commit that the image is built from; tagged on it."

  validation {
    condition     = var.commit != "" && regex_replace(var.commit, "^[0-9a-f]{7,40}(-dirty)?$", "") == ""
    error_message = "The commit must be 7 to 40 hexadecimal digits, with -dirty appended when the work tree has changes."
  }
}

variable "inputs_digest" {
  type        = string
  description = "SHA-256 of everything that goes into the image; tagged on it, so that a build of the same can be skipped."

  validation {
    condition     = var.inputs_digest != "" && regex_replace(var.inputs_digest, "^[0-9a-f]{64}$", "") == ""
    error_message = "The inputs_digest must be the 64 hexadecimal digits of a SHA-256."
  }
}

variable "schema_head" {
  type        = string
  description = "Newest migration that the service brings, as `signup-schema` says; tagged on the image."

  validation {
    condition     = var.schema_head != "" && regex_replace(var.schema_head, "^[0-9]{4}$", "") == ""
    error_message = "The schema_head must be a migration's four digits, such as 0007; `signup-schema` prints it."
  }
}

variable "schema_floor" {
  type        = string
  description = "Newest migration of the oldest release that still runs on that schema, as `signup-schema` says; tagged on the image."

  validation {
    condition     = var.schema_floor != "" && regex_replace(var.schema_floor, "^[0-9]{4}$", "") == ""
    error_message = "The schema_floor must be a migration's four digits, such as 0005; `signup-schema` prints it."
  }
}

variable "manifest_path" {
  type        = string
  default     = "build/manifest.json"
  description = "File to write the image's id to."
}

variable "papers_path" {
  type        = string
  default     = "build/papers"
  description = "Folder to write the image's bills of materials, scores and manifest to."
}
