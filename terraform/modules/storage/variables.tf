variable "bucket" {
  description = "Name of the picture bucket, unique over all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "Set bucket to 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "force_destroy" {
  description = "Let Terraform delete the bucket with the objects in it."
  type        = bool
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.tags), "Name")
    error_message = "Remove Name from tags: the bucket has a name of its own."
  }
}
