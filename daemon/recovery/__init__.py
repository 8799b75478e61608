"""Carries out on this host what was decided: the run, one instance, the operations."""
