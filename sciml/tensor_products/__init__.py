"""Equivariant tensor products, one product a file."""
