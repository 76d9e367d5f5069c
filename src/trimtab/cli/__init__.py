"""``trimtab`` on the command line."""

from trimtab.cli.app import main

__all__ = ["main"]
