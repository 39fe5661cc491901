"""Triton kernels and their launchers; each stands beside a plain torch reference in the module that calls it."""
