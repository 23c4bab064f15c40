"""Files that tinyvox reads and writes for people: whole or not at all, and errors in one line."""

from tinyvox.storage.atomic import (
    atomic_writer,
    atomic_writers,
    interrupted_afterwards,
    write_file,
)
from tinyvox.storage.checks import (
    check_apart,
    check_folder,
    check_inputs,
    check_output,
    check_space,
    open_input,
)
from tinyvox.storage.documents import Place, describe, read_yaml, write_yaml, yaml_text
from tinyvox.storage.folders import cache_folder
from tinyvox.storage.lines import open_to_add

__all__ = [
    "Place",
    "atomic_writer",
    "atomic_writers",
    "cache_folder",
    "check_apart",
    "check_folder",
    "check_inputs",
    "check_output",
    "check_space",
    "describe",
    "interrupted_afterwards",
    "open_input",
    "open_to_add",
    "read_yaml",
    "write_file",
    "write_yaml",
    "yaml_text",
]
