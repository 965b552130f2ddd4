"""An AWS region on one machine: moto's API with real bodies behind it."""
