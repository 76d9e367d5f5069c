"""What makes a trimmed model fast here: the arithmetic this CPU gets, and kernels beside the reference."""
