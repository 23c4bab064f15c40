"""The file formats of tinyvox, each in its own package."""
