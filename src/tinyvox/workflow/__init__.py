"""The one way to do a job: inputs checked, planned, compressed, tuned, saved, described."""
