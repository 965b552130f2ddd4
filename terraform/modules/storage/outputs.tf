output "bucket" {
  description = "Name of the picture bucket."
  value       = aws_s3_bucket.this.bucket
}

output "bucket_arn" {
  description = "ARN of the picture bucket."
  value       = aws_s3_bucket.this.arn
}
