"""One budget across all axes: bits, sparsity, rank, visual tokens, KV cache and adapter rank, searched together.

Every point is applied to the model, timed beside the untouched one and asked questions of the training side; what is
left of the points that nothing beats is read once on the test split. ``drive`` has the door, ``bench`` what a point
costs, ``stopping`` when it has been asked enough, ``front`` the mathematics, ``study`` Optuna and its journal.
"""
