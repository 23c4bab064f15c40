"""A module run for one example, its operators recorded on a tape.

The module runs as it always does, with real tensors: what it computes of lengths, masks and sizes
are plain values, and any Python code may decide by them. Only what depends on an input is recorded.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.tape import SHAPE_ALONE, Tape, Value, operator_name
from tinyvox.importers.torch.archive import first_line
from tinyvox.importers.torch.writes import Writes, is_part
from tinyvox.importers.torch.writing_out import PACKED_NOTE, applied, is_packing, is_written_out

aten = torch.ops.aten

_DECIDES = frozenset(("item", "_local_scalar_dense", "is_nonzero", "equal", "allclose"))
"""Operators that give Python a value of a tensor."""
_FILLS = frozenset(("zero", "fill"))
"""Operators in place after which a tensor is a constant."""
_MOVES = frozenset(
    "_to_copy _unsafe_view alias clamp clamp_min clone detach permute reshape select slice squeeze "
    "t transpose unsqueeze view".split()
)
"""Operators that give the values of a tensor in another shape, order or type, or some of them, or
between limits."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what a module does with its inputs, while this is the active mode."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self.notes: list[str] = []
        self.failure: ImporterError | None = None
        """What was wrong, should the module wrap the error into one of its own."""
        self._sources = _Sources(module)
        self._known: dict[int, tuple[Tensor, Value]] = {}
        """Each tensor that depends on an input, by its `id`, which it keeps while it is held."""
        self._constants: dict[int, tuple[Tensor, Tensor]] = {}
        self._watched: dict[int, tuple[Tensor, str]] = {}
        self.read: set[str] = set()
        """The watched tensors that were used."""
        self.embedded: set[str] = set()
        """The watched tensors that are indices of an embedding."""
        self._valid: dict[int, set[int]] = {}
        """The tensors of a storage that was changed in place which have its present values."""
        self._writes = Writes(self.tape)

    def input(self, name: str, example: Tensor) -> None:
        """Let a tensor be an input of the tape."""
        self._keep(example, self.tape.input(name, example.clone()))

    def watch(self, name: str, constant: Tensor) -> None:
        """Note whether a constant is used."""
        self._watched[id(constant)] = constant, name

    def value(self, found: Any) -> Any:
        """The tape's value for a tensor that the module gave; a constant as it is."""
        taken = self._taken(found) if self._depends(found) else found
        return taken if isinstance(taken, Value) else found

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and record it if it depends on an input."""
        kwargs = dict(kwargs or {})
        tensors = [each for each in _pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self._note_watched(func, tensors)
        if not any(self._depends(each) or self._is_stale(each) for each in tensors):
            found = func(*args, **kwargs)
            if func._schema.is_mutable and args:
                self._constants.pop(id(args[0]), None)
            self._watch_moved(func, args, found)
            self._writes.note(func, args, found)
            return found
        self.tape.place, self.tape.where = self._sources.find(func, tensors)
        try:
            return self._recorded(func, args, kwargs, tensors)
        except ImporterError as error:
            self.failure = ImporterError(f"{self.tape.where}: {error}")
            raise self.failure from error

    def _recorded(
        self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> Any:
        name = operator_name(func)
        if name in _DECIDES:
            raise ImporterError(
                "the module decides by values of its input; leave that out of what is imported"
            )
        if is_part(func) and self._writes.is_filled(args[0]):
            found = func(*args, **kwargs)
            self._writes.note(func, args, found)
            return found
        if self._is_written(func, args) or self._is_emptied(func, args, tensors):
            return func(*args, **kwargs)
        if any(map(self._is_stale, tensors)):
            raise ImporterError(
                "takes a tensor that an operation changes in place through another view of it; "
                "write it without operations in place"
            )
        given, named = _pytree.tree_map(self._taken, (args, kwargs))
        found = func(*args, **kwargs)
        if name in SHAPE_ALONE or not any(
            isinstance(t, Tensor) for t in _pytree.tree_leaves(found)
        ):
            return found
        if is_packing(func):
            self.notes.append(PACKED_NOTE)
        if is_written_out(func):
            values = applied(self.tape, func, given, named)
        else:
            values = self.tape.record(func, given, named, _pytree.tree_map(_copied, found))
        if func._schema.is_mutable:
            self._change(args[0])
        self._writes.note(func, args, found)
        parts, each = (x if isinstance(x, list | tuple) else [x] for x in (found, values))
        for tensor, value in zip(parts, each, strict=True):
            if isinstance(value, Value):
                self._keep(tensor, value)
        return found

    def _depends(self, tensor: Any) -> bool:
        """Whether what a tensor holds depends on an input."""
        if id(tensor) in self._known or self._writes.is_filled(tensor):
            return True
        part = self._writes.part(tensor)
        return part is not None and self._depends(part.whole)

    def _is_written(self, func: OpOverload, args: tuple[Any, ...]) -> bool:
        """Whether this is a copy into a part of a tensor, which can be followed."""
        part = self._writes.part(args[0]) if func is aten.copy_.default else None
        if part is None or self._is_stale(args[1]):
            return False
        values, whole = self._taken(args[1]), part.whole
        if tuple(values.shape) != tuple(part.tensor.shape):
            values = self.tape.apply(aten.expand.default, values, list(part.tensor.shape))
        known = self._known.get(id(whole))
        if self._writes.is_filled(whole):
            before: Value | Tensor = whole
        else:
            before = known[1] if known else _copied(whole)
        if not self._writes.write(part, before, values):
            return False
        for each in (whole, *self._writes.parts_of(whole)):
            self._known.pop(id(each), None)
        self._valid[_storage(whole)] = set()
        return True

    def _is_emptied(self, func: OpOverload, args: tuple[Any, ...], tensors: list[Tensor]) -> bool:
        """Whether this makes a tensor a constant."""
        fills = operator_name(func) in _FILLS and id(args[0]) in self._known
        if not fills or any(map(self._depends, tensors[1:])):
            return False
        del self._known[id(args[0])]
        self._change(args[0])
        return True

    def _keep(self, tensor: Tensor, value: Value) -> None:
        self._known[id(tensor)] = tensor, value
        if (storage := _storage(tensor)) in self._valid:
            self._valid[storage].add(id(tensor))

    def _change(self, tensor: Tensor) -> None:
        """All other tensors of this one's storage have values from now on that nobody followed."""
        self._valid[_storage(tensor)] = {id(tensor)}

    def _is_stale(self, tensor: Tensor) -> bool:
        if self._writes.is_filled(tensor):
            return False
        part = self._writes.part(tensor) if id(tensor) not in self._known else None
        if part is not None and self._depends(part.whole):
            return self._is_stale(part.whole)
        valid = self._valid.get(_storage(tensor)) if self._valid else None
        return valid is not None and id(tensor) not in valid

    def _taken(self, argument: Any) -> Any:
        """An argument for the tape."""
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) in self._known:
            return self._known[id(argument)][1]
        if self._writes.is_filled(argument):
            self._keep(argument, value := self._writes.joined(argument))
            return value
        if (part := self._writes.part(argument)) is not None and self._depends(part.whole):
            return self._writes.taken(part, self._taken(part.whole))
        if id(argument) not in self._constants:
            self._constants[id(argument)] = argument, _plain(argument)
        return self._constants[id(argument)][1]

    def _note_watched(self, func: OpOverload, tensors: list[Tensor]) -> None:
        names = [self._watched[id(each)][1] for each in tensors if id(each) in self._watched]
        self.read.update(names)
        if operator_name(func) == "embedding":
            self.embedded.update(names)

    def _watch_moved(self, func: OpOverload, args: tuple[Any, ...], found: Any) -> None:
        """A watched tensor in another shape or order is watched too."""
        known = self._watched.get(id(args[0])) if args else None
        if known and isinstance(found, Tensor) and operator_name(func) in _MOVES:
            self._watched[id(found)] = found, known[1]


def run_recorded(recorder: Recorder, run: Callable[[], Any]) -> Any:
    """What `run` gives while it is recorded. Raises ImporterError where it fails."""
    try:
        with torch.inference_mode(), recorder:  # so that layers are seen whole
            return run()
    except Exception as error:  # a module may raise anything
        if recorder.failure is not None:
            raise recorder.failure from error
        place = _failed_at(error)
        raise ImporterError(
            f"does not run on its example{place}: {type(error).__name__}: {first_line(error)}"
        ) from error


def _plain(constant: Tensor) -> Tensor:
    """A constant as a tensor that gradients may be taken of."""
    with torch.inference_mode(False):
        return constant.clone() if constant.is_inference() else constant.detach()


def _copied(found: Any) -> Any:
    """A result as it is now."""
    if not isinstance(found, Tensor):
        return found
    with torch.inference_mode(False):
        return found.clone()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Sources:
    """Where an operator stands in the source, from the Python code that runs."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = {id(part): (path, part) for path, part in module.named_modules()}
        self._weights = {
            weight.data_ptr(): name.rpartition(".")[0]
            for name, weight in module.named_parameters()
            if weight.numel()
        }

    def find(self, func: OpOverload, tensors: list[Tensor]) -> tuple[Place, str]:
        """The module, and words for messages."""
        line, place = "", None
        for frame in _stack():
            if not line and _is_source(frame.f_code.co_filename):
                line = f"at {PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"
            place = place or self._module(frame.f_locals.get("self"))
            if line and place:
                break
        place = place or self._owner(tensors)
        words = [f"in module {place.path!r}"] if place.path else []
        words += [line] if line else []
        return place, f"{func} ({' '.join(words)})" if words else str(func)

    def _module(self, owner: Any) -> Place | None:
        path, part = self._modules.get(id(owner), ("", None))
        if part is None or isinstance(part, torch.jit.ScriptModule):
            return None
        is_layer = type(part).__module__.startswith(("torch.nn.modules.", "tinyvox."))
        return Place(path, is_layer)

    def _owner(self, tensors: list[Tensor]) -> Place:
        """The module of a weight that is used: of a script, no Python code runs."""
        paths = (self._weights.get(each.data_ptr()) for each in tensors if each.numel())
        path = next(filter(None, paths), "")
        return Place(path, bool(path))


def _stack() -> Iterator[types.FrameType]:
    """The frames of the module's code, the innermost first."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not run_recorded.__code__:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back


def _is_source(file: str) -> bool:
    return "torch" not in PurePath(file).parts and not file.startswith("<")


def _failed_at(error: BaseException) -> str:
    """The innermost line of the module's own code that an error went through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _is_source(file) and file != __file__:
            place = f" at {PurePath(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
