"""Language models in the files of other programs."""
