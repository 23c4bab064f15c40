"""Moments in a file of the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from tinyvox.calibration.statistics import Moments
from tinyvox.storage import atomic_writer

FORMAT = "tinyvox statistics 4"
"""Changes with what the file holds, and with how it is computed."""


def as_stored(moments: Mapping[str, Moments]) -> dict[str, Moments]:
    """The moments with the precision of the file: second moments in float32, as frames are."""
    return {
        name: dataclasses.replace(
            each, second=each.second.float().double(), sensitivity=_rounded(each.sensitivity)
        )
        for name, each in moments.items()
    }


def _rounded(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().double()


def write_moments(moments: Mapping[str, Moments], path: Path) -> None:
    """Write moments as an .npz file. Raises FileError where it cannot be written."""
    arrays: dict[str, np.ndarray] = {}
    for name, each in moments.items():
        arrays[f"{name}/second"] = each.second.float().numpy()
        arrays[f"{name}/mean"] = each.mean.numpy()
        arrays[f"{name}/damping"] = np.array(each.damping)
        if each.fisher is not None:
            arrays[f"{name}/fisher"] = each.fisher.numpy()
        if each.saliency is not None:
            arrays[f"{name}/saliency"] = each.saliency.numpy()
        if each.sensitivity is not None:
            arrays[f"{name}/sensitivity"] = each.sensitivity.float().numpy()
    with atomic_writer(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_moments(path: Path) -> dict[str, Moments] | None:
    """The moments of a file; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: torch.from_numpy(held[name]) for name in held.files}
        names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
        return {
            name: Moments(
                arrays[f"{name}/second"].double(),
                arrays[f"{name}/mean"],
                float(arrays[f"{name}/damping"]),
                arrays.get(f"{name}/fisher"),
                arrays.get(f"{name}/saliency"),
                _rounded(arrays.get(f"{name}/sensitivity")),
            )
            for name in names
        }
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        return None
