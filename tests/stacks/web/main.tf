# A stack that has nothing to do with the rest of this repository: a page from three zones behind a load balancer,
# and a counter of its own. It shows that the twin serves whoever comes.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {}

locals {
  zones = { a = 0, b = 1, c = 2 }
}

data "aws_ami" "debian" {
  owners      = ["136693071363"]
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-13-amd64-*"]
  }
}

resource "aws_vpc" "page" {
  cidr_block = "10.40.0.0/16"
}

resource "aws_internet_gateway" "page" {
  vpc_id = aws_vpc.page.id
}

resource "aws_route" "out" {
  route_table_id         = aws_vpc.page.main_route_table_id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.page.id
}

resource "aws_subnet" "page" {
  for_each = local.zones

  vpc_id                  = aws_vpc.page.id
  availability_zone       = "us-east-1${each.key}"
  cidr_block              = cidrsubnet(aws_vpc.page.cidr_block, 8, each.value)
  map_public_ip_on_launch = true
}

resource "aws_security_group" "edge" {
  name   = "page-edge"
  vpc_id = aws_vpc.page.id

  ingress {
    protocol    = "tcp"
    from_port   = var.port
    to_port     = var.port
    cidr_blocks = ["0.0.0.0/0"]
  }

  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "page" {
  name   = "page"
  vpc_id = aws_vpc.page.id

  ingress {
    protocol        = "tcp"
    from_port       = 8000
    to_port         = 8000
    security_groups = [aws_security_group.edge.id]
  }
}

resource "aws_launch_template" "page" {
  name                   = "page"
  image_id               = data.aws_ami.debian.id
  instance_type          = "t3.micro"
  vpc_security_group_ids = [aws_security_group.page.id]
  user_data = base64encode(join("\n", ["#cloud-config", yamlencode({
    write_files = [{ path = "/srv/index.html", content = var.words }]
    runcmd      = ["systemd-run --unit=page --working-directory=/srv python3 -m http.server 8000"]
  })]))
}

resource "aws_lb" "page" {
  name            = "page"
  subnets         = [for subnet in aws_subnet.page : subnet.id]
  security_groups = [aws_security_group.edge.id]
}

resource "aws_lb_target_group" "page" {
  name                 = "page"
  vpc_id               = aws_vpc.page.id
  protocol             = "HTTP"
  port                 = 8000
  deregistration_delay = 1

  health_check {
    interval            = 5
    timeout             = 2
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "page" {
  load_balancer_arn = aws_lb.page.arn
  port              = var.port

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.page.arn
  }
}

resource "aws_autoscaling_group" "page" {
  name                  = "page"
  min_size              = 2
  max_size              = 4
  vpc_zone_identifier   = [for subnet in aws_subnet.page : subnet.id]
  target_group_arns     = [aws_lb_target_group.page.arn]
  wait_for_elb_capacity = 2
  force_delete          = true

  launch_template {
    id      = aws_launch_template.page.id
    version = aws_launch_template.page.latest_version
  }
}

resource "aws_dynamodb_table" "counter" {
  name         = "page-counter"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "path"

  attribute {
    name = "path"
    type = "S"
  }
}

variable "words" {
  description = "What the page says."
  type        = string
}

variable "port" {
  description = "The load balancer's port."
  type        = number
}

output "url" {
  description = "Where the page is."
  value       = "http://${aws_lb.page.dns_name}:${var.port}/"
}
