output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "Public subnets, in the zones' order, once they reach the internet."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
  depends_on  = [aws_route.public, aws_route_table_association.public]
}

output "app_subnet_ids" {
  description = "App subnets, in the zones' order, once their way out exists: instances need it at boot."
  value       = [for zone in var.zones : aws_subnet.app[zone].id]
  depends_on  = [aws_route.app, aws_route_table_association.app, aws_vpc_endpoint.gateway]
}

output "database_subnet_ids" {
  description = "Database subnets, in the zones' order."
  value       = [for zone in var.zones : aws_subnet.database[zone].id]
}
