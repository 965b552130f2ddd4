"""Access control in front of moto: who calls, what is asked of which resources, and whether policies allow it."""
