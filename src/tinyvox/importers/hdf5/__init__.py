"""HDF5 files from strangers: groups, arrays and texts, by their paths."""

from tinyvox.importers.hdf5.contents import Contents, contents_of

__all__ = ["Contents", "contents_of"]
