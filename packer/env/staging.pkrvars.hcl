region        = "us-east-1"
instance_type = "t3.small"
