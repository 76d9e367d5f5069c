"""What a run left behind, as pages and tables that a person reads. Imports no method family."""

from __future__ import annotations

from trimtab.report.write import render

__all__ = ["render"]
