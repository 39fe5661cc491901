"""Symplectic integrators of fields and bodies; nothing here yet."""
