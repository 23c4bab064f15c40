"""File formats of tinyvox."""
