region        = "us-east-1"
instance_type = "t3.small"
ec2_endpoint  = "http://127.77.0.1:4566"
