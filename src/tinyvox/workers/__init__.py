"""Work that other processes do, on this machine or on a cluster; one that is killed loses its job
alone."""

from tinyvox.workers.jobs import ATTEMPTS, Executor, Need, Outcome, Shared
from tinyvox.workers.on_ray import RayCluster
from tinyvox.workers.processes import Processes
from tinyvox.workers.resources import free_memory, processors

__all__ = [
    "ATTEMPTS",
    "Executor",
    "Need",
    "Outcome",
    "Processes",
    "RayCluster",
    "Shared",
    "free_memory",
    "processors",
]
