"""A decoder as a plan: its matrices laid out for the compiled library, which goes from tokens to logits in one call."""
