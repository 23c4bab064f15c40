"""DeepSpeech made small in every way and at every ratio: how files are made, and measured."""
