"""The report's plots, one idea a file: each takes a run and gives a ``Plot``, empty where nothing was measured."""
