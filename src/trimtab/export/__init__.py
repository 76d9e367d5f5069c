"""Artifacts in the forms of other engines, each read back by that engine in a process that knows nothing of Trimtab."""
