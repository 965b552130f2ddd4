locals {
  # formatdate in UTC; to the second, since an image's name is unique in its account.
  timestamp = formatdate("YYYYMMDD-hhmmss", timestamp())
  image     = "${var.name}-${var.service_version}-${local.timestamp}"
  tags = {
    Name           = local.image
    Project        = var.name
    Commit         = var.commit
    ServiceVersion = var.service_version
    InputsDigest   = var.inputs_digest
    SchemaHead     = var.schema_head
    SchemaFloor    = var.schema_floor
    SourceAMI      = "{{ .SourceAMI }}"
    SourceAMIName  = "{{ .SourceAMIName }}"
  }
}

source "amazon-ebs" "image" {
  region              = var.region
  custom_endpoint_ec2 = var.ec2_endpoint

  source_ami_filter {
    owners      = [var.source_ami_owner]
    most_recent = true
    filters = {
      name                = var.source_ami_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  instance_type                         = var.instance_type
  subnet_id                             = var.subnet_id
  associate_public_ip_address           = true
  temporary_security_group_source_cidrs = var.ssh_source_cidrs
  # A build that loses its Packer leaves no instance to pay for.
  shutdown_behavior = "terminate"

  launch_block_device_mappings {
    device_name = "/dev/xvda"
    volume_type = "gp3"
    # gp3's own baseline; Packer 1.6.6 wants it said.
    iops                  = 3000
    throughput            = 125
    volume_size           = var.volume_size
    encrypted             = true
    delete_on_termination = true
  }

  communicator  = "ssh"
  ssh_username  = "admin"
  ssh_interface = "public_ip"
  ssh_timeout   = "5m"

  # No description: it is set before the tags, so a role would have to be allowed to change images that have none.
  ami_name        = local.image
  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = merge(local.tags, { Name = "${local.image}-build" })
  run_volume_tags = merge(local.tags, { Name = "${local.image}-build" })
}
