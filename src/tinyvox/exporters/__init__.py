"""Models written as files of other tools."""

from tinyvox.exporters.pt2 import export_program, export_pt2, export_with_card

__all__ = ["export_program", "export_pt2", "export_with_card"]
