"""A whole ONNX graph made small: its weights are compressed, everything else stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvox.errors import FileError, ImporterError, ModelError, RecipeError
from tinyvox.exporters import (
    Form,
    GraphWeight,
    GraphWeights,
    find_weights,
    needs,
    read_onnx,
    with_weights,
    write_onnx,
)
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Matrix, Model, Node, layers
from tinyvox.passes import apply
from tinyvox.passes.quantization import relative_error
from tinyvox.planner import check_budget
from tinyvox.recipe import Recipe, load_recipe
from tinyvox.storage import check_apart, check_output, open_input
from tinyvox.workflow.graph_choices import Choice, choices, choose
from tinyvox.workflow.graph_comparison import output_distances

if TYPE_CHECKING:
    from onnx import ModelProto

STEPS = ("factorize", "sparsify", "quantize")
"""The steps of a recipe that need neither the layers of a graph nor data."""
ATTEMPTS, ROOM = 8, 64
"""How often weights are chosen again, for so many bytes less, where a file came out larger than
was estimated."""


def compress_onnx(
    model: Path,
    output: Path,
    *,
    ratio: float | None = None,
    size: int | None = None,
    recipe: Path | None = None,
) -> dict[str, Any]:
    """Compress the recurrent, dense and convolution weights of an ONNX graph, and write the graph.

    The graph may hold anything else, which is not touched. No data is used. `ratio` is that of the
    two files, `size` the bytes of the small one; a `recipe` may have the steps of STEPS, and calls
    the weights by their names in the graph, a dot for each slash.

    Returns `file`, `file_bytes`, `original_bytes` (those of the file), `ratio`, `tvx_bytes` (of the
    same matrices in a .tvx file), `tensors` (a list with `name`, `form` and `bytes`), `errors` (the
    relative squared error of each weight), `left` (the large tensors that stay, with the reason)
    and `distances` (that of each output for random inputs, relative), or the reason as
    `not_compared`.

    Raises FileError, RecipeError or ImporterError in one line.
    """
    _check(model, output, recipe)
    check_budget({"ratio": ratio, "size": size})
    settings = None if recipe is None else _recipe(recipe)
    found = _found(model)
    if not found.weights:
        raise ModelError(f"{model}: {found.nothing()}")
    matrices: Mapping[str, Matrix]
    if settings is not None:
        matrices = _by_recipe(found.weights, settings)
        proto, forms = with_weights(found, matrices)
    else:
        allowed = size if size is not None else _bytes(model, found.proto) / (ratio or 1)
        proto, forms, matrices = _within(found, allowed)
    write_onnx(proto, output)
    return _facts(model, output, found, matrices, forms)


def _check(model: Path, output: Path, recipe: Path | None) -> None:
    check_output(output, (".onnx",))
    check_apart({"the graph": output}, [path for path in (model, recipe) if path is not None])
    if model.suffix.lower() != ".onnx":
        raise FileError(
            f"{output}: only an .onnx file is compressed to one, found {model}; compress it to a "
            ".tvx file, and tinyvox export that"
        )
    open_input(model).close()
    needs("onnx", output)


def _found(model: Path) -> GraphWeights:
    proto = read_onnx(model)
    try:
        return find_weights(proto)
    except ImporterError as error:
        raise ImporterError(f"{model}: {error}") from error


def _bytes(path: Path, proto: ModelProto) -> int:
    """The bytes of a file; the values of its tensors may lie in another one, beside it."""
    held: int = proto.ByteSize()
    return max(path.stat().st_size, held)


def _recipe(path: Path) -> Recipe:
    """A recipe of steps that a graph takes. Raises RecipeError for others."""
    recipe = load_recipe(path)
    for number, step in enumerate(recipe.steps, start=1):
        if step.name not in STEPS:
            raise RecipeError(
                f"{path}: step {number} is {step.name}, expected one of {', '.join(STEPS)}: the "
                "layers of an ONNX graph are not known"
            )
    return recipe


_Small = tuple["ModelProto", Sequence[Form], Mapping[str, Matrix]]


def _within(found: GraphWeights, allowed: float) -> _Small:
    """The graph with the least error in a file of so many bytes. Raises RecipeError.

    What the file takes beside the chosen forms is that of the smallest file: weights that are
    equal, or one another's transpose, share their codes, which no form's own bytes tell.
    """
    options = {weight.name: choices(weight) for weight in found.weights}
    small = _made(found, {name: each[0] for name, each in options.items()})
    if (least := small[0].ByteSize()) > allowed:
        raise RecipeError(
            f"{allowed:,.0f} bytes are too few: the smallest file takes {least:,}, of "
            f"{found.proto.ByteSize():,}; what is no weight stays as it is"
        )
    budget = allowed - (least - sum(each[0].bytes for each in options.values()))
    for _ in range(ATTEMPTS):
        if (chosen := choose(options, budget)) is None:
            break
        made = _made(found, chosen)
        if (over := made[0].ByteSize() - allowed) <= 0:
            return made
        budget -= over + ROOM
    return small


def _made(found: GraphWeights, chosen: Mapping[str, Choice]) -> _Small:
    """The graph with these forms of its weights."""
    matrices = {name: choice.matrix for name, choice in chosen.items()}
    return *with_weights(found, matrices), matrices


def _by_recipe(weights: Sequence[GraphWeight], recipe: Recipe) -> dict[str, Matrix]:
    """The matrices that a recipe makes; those that stay float32 are not among them."""
    model = _as_model({weight.name: weight.matrix for weight in weights})
    made = [matrix for _, matrix in apply(model, recipe).model.matrices()]
    pairs = zip(weights, made, strict=True)
    return {weight.name: matrix for weight, matrix in pairs if matrix is not weight.matrix}


def _as_model(matrices: Mapping[str, Matrix]) -> Model:
    """Matrices side by side, each a linear layer of a part of the input."""
    widest = max(matrix.shape[1] for matrix in matrices.values())
    nodes: list[Node] = []
    taken = {INPUT}
    for name, matrix in matrices.items():
        layer = name.replace("/", ".").strip(".")
        while layer in taken or not layer:
            layer += "_"
        taken |= {layer, f"{layer}:input"}
        part = layers.Slice(0, matrix.shape[1])
        nodes.append(Node(f"{layer}:input", part, (INPUT,)))
        nodes.append(Node(layer, layers.Linear(matrix), (f"{layer}:input",)))
    return Model(widest, tuple(nodes))


def _facts(
    model: Path,
    output: Path,
    found: GraphWeights,
    matrices: Mapping[str, Matrix],
    forms: Sequence[Form],
) -> dict[str, Any]:
    left = dict(found.left)
    left |= {w.name: "no step takes it" for w in found.weights if w.name not in matrices}
    before, after = _bytes(model, found.proto), output.stat().st_size
    distances = output_distances(model, output)
    compared = "not_compared" if isinstance(distances, str) else "distances"
    return {
        "file": str(output),
        "file_bytes": after,
        "original_bytes": before,
        "ratio": before / after,
        "tvx_bytes": tvx.size(_as_model(matrices)) if matrices else 0,
        "tensors": [asdict(form) for form in forms],
        "errors": {
            w.name: relative_error(w.matrix, matrices[w.name])
            for w in found.weights
            if w.name in matrices
        },
        "left": [{"name": name, "reason": reason} for name, reason in left.items()],
        compared: distances,
    }
