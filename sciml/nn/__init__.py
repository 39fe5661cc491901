"""Equivariant layers that models share: radial bases, linear maps, sphere mixer, norms."""
