"""Batched molecular dynamics: pure steps, exact restarts, dipoles at every step."""
