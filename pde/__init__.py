"""Solvers and surrogates of partial differential equations; nothing here yet."""
