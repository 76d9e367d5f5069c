"""Models as graphs, for the formats that are graphs."""
