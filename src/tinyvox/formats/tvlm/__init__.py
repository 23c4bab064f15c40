"""The `.tvlm` file: a language model in as few bytes as possible, read where it lies.

`docs/tvlm.md` specifies it.
"""

from tinyvox.formats.tvlm.file import LanguageModelFile, load_ngrams, save_ngrams

__all__ = ["LanguageModelFile", "load_ngrams", "save_ngrams"]
