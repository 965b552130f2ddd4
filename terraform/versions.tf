terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # Completed at init: -backend-config for bucket, key, region and use_lockfile=true.
  backend "s3" {}
}

# Region, credentials and endpoints come from the environment (AWS_REGION, AWS_PROFILE and so on).
provider "aws" {}
