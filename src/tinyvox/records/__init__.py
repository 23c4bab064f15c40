"""Results as JSON: their schema, where they come from, and how they are read back."""

from tinyvox.records.lines import LogLine, TaskLine
from tinyvox.records.origin import hash_of, hash_of_document, stamp
from tinyvox.records.reading import Result, read_results
from tinyvox.records.schema import (
    KINDS,
    SCHEMA_VERSION,
    Described,
    Record,
    Scored,
    Timed,
)

__all__ = [
    "KINDS",
    "SCHEMA_VERSION",
    "Described",
    "LogLine",
    "Record",
    "Result",
    "Scored",
    "TaskLine",
    "Timed",
    "hash_of",
    "hash_of_document",
    "read_results",
    "stamp",
]
