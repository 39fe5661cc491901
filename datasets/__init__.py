"""Readers, labellers and reference energies of labelled structures."""
