"""Interatomic potentials and their ASE calculator."""
