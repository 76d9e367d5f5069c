"""The OpenAI-compatible server: what was evaluated is what is served, token and cache policies included."""
