"""Models that others trained, in their own engines and in tinyvox."""
