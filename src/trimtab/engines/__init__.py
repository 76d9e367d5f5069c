"""Engines that can run an artifact here, behind one protocol. ``arbiter`` times them, ``remembered`` goes by that."""
