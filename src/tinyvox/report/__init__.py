"""Reports: results in JSON, and nothing else, become one HTML file."""

from tinyvox.report.building import check_installed, page, write_report

__all__ = ["check_installed", "page", "write_report"]
