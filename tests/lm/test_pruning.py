"""Pruning: losses against models from which an n-gram was taken out, frequencies against text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_ngrams import random_model, spelled

from tinyvox.lm import END_ID, START_ID, NGrams
from tinyvox.lm.frequencies import in_text, of_model
from tinyvox.lm.pruning import keep, losses, normalized, subset, threshold_for
