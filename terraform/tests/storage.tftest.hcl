mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  bucket        = "t-pictures"
  force_destroy = false
}

run "nothing_is_public" {
  module {
    source = "./modules/storage"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "The bucket must block public access in all four ways."
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.this.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "Access lists must be off."
  }
}

run "answers_over_tls_alone" {
  module {
    source = "./modules/storage"
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.this.statement : {
        effect     = statement.effect
        actions    = join(" ", statement.actions)
        everyone   = one(statement.principals).type == "*" && one(one(statement.principals).identifiers) == "*"
        everything = toset(statement.resources) == toset([aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"])
        when       = "${one(statement.condition).test} ${one(statement.condition).variable} ${one(one(statement.condition).values)}"
      }
    ] == [{ effect = "Deny", actions = "s3:*", everyone = true, everything = true, when = "Bool aws:SecureTransport false" }]
    error_message = "Whoever asks without TLS must be refused, whatever they ask for."
  }

  assert {
    condition     = aws_s3_bucket_policy.this.bucket == aws_s3_bucket.this.id && aws_s3_bucket_policy.this.policy == data.aws_iam_policy_document.this.json
    error_message = "The bucket must have that policy."
  }
}

run "is_encrypted" {
  module {
    source = "./modules/storage"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Objects must be encrypted at rest."
  }
}

run "keeps_what_was_deleted_for_a_month" {
  module {
    source = "./modules/storage"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 30
    error_message = "Old versions must stay for 30 days."
  }

  assert {
    condition     = !aws_s3_bucket.this.force_destroy
    error_message = "A bucket with objects must not be deleted."
  }
}

run "refuses_a_name_that_s3_refuses" {
  command = plan

  module {
    source = "./modules/storage"
  }

  variables {
    bucket = "Pictures_of_t"
  }

  expect_failures = [var.bucket]
}
