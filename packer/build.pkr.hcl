packer {
  required_version = ">= 1.6.6"
}

locals {
  ansible_env_vars = [
    "ANSIBLE_CONFIG=${abspath("${path.root}/../ansible.cfg")}",
    # The builder is minutes old: nobody knows its host key, and none of its is worth remembering.
    "ANSIBLE_HOST_KEY_CHECKING=False",
    "ANSIBLE_SSH_COMMON_ARGS=-o UserKnownHostsFile=/dev/null",
    "ANSIBLE_NOCOLOR=True",
    "ANSIBLE_STRATEGY=mitogen_linear",
    # Not in a home: the cleanup empties those while it is connected.
    "ANSIBLE_REMOTE_TEMP=/tmp",
  ]
}

build {
  sources = ["source.amazon-ebs.image"]

  provisioner "ansible" {
    playbook_file    = "${path.root}/../playbooks/image.yml"
    user             = "admin"
    use_proxy        = false
    ansible_env_vars = local.ansible_env_vars
    extra_arguments = [
      "--extra-vars", "signup_version=${var.service_version}",
      "--extra-vars", "signup_wheelhouse=${abspath(var.wheelhouse)}",
    ]
  }

  # An image that does not survive its own reboot is none. The sleep ends with the connection, so that what comes next
  # waits for the machine after its boot.
  provisioner "shell" {
    inline            = ["sudo systemctl reboot && sleep 120"]
    expect_disconnect = true
  }

  provisioner "ansible" {
    playbook_file    = "${path.root}/../playbooks/image_cleanup.yml"
    user             = "admin"
    use_proxy        = false
    ansible_env_vars = local.ansible_env_vars
    extra_arguments = [
      "--extra-vars", "signup_version=${var.service_version}",
      "--extra-vars", "image_cleanup_confirmed=true",
      "--extra-vars", "audit_papers=${abspath(var.papers_path)}",
    ]
  }

  post-processors {
    post-processor "manifest" {
      output     = var.manifest_path
      strip_path = true
      custom_data = {
        name            = local.image
        region          = var.region
        commit          = var.commit
        service_version = var.service_version
        inputs_digest   = var.inputs_digest
        schema_head     = var.schema_head
        schema_floor    = var.schema_floor
      }
    }

    # An image that fails this is removed by it. The manifest says which image it is.
    post-processor "shell-local" {
      command = join(" ", concat(
        ["cd ${abspath("${path.root}/..")} &&", ".venv/bin/python -m evenkeel.fresh"],
        ["${abspath(var.manifest_path)} ${abspath(var.papers_path)} --type=${var.instance_type} --subnet=${var.subnet_id}"],
        ["--from"], var.ssh_source_cidrs,
      ))
    }
  }
}
