"""The one way to do a job: inputs checked, planned, compressed, tuned, saved, described.

The command line, Python, the demonstration and the benchmarks all come in here.
"""

from tinyvox.workflow.api import compress, finetune, plan
from tinyvox.workflow.compression import prepare, run
from tinyvox.workflow.conversion import converted_model, converted_scorer
from tinyvox.workflow.demonstration import Entry, demonstrate
from tinyvox.workflow.description import (
    BYTES_A_PARAMETER,
    describe_file,
    describe_model,
    left_float,
)
from tinyvox.workflow.exporting import export
from tinyvox.workflow.finetuning import FinetuneRequest, FinetuneResult, run_finetune
from tinyvox.workflow.inputs import Inputs, read_inputs
from tinyvox.workflow.onnx_graph import compress_onnx
from tinyvox.workflow.request import CompressRequest, CompressResult
from tinyvox.workflow.results import (
    Clock,
    compressed_facts,
    described_facts,
    files_of,
    finetuned_facts,
    scored_facts,
    scored_on_dev,
    timed_facts,
)
from tinyvox.workflow.scoring import Evaluation, evaluate
from tinyvox.workflow.training import read_training, train
from tinyvox.workflow.weights import TunedWeights, tune_weights

__all__ = [
    "BYTES_A_PARAMETER",
    "Clock", "CompressRequest", "CompressResult", "Entry", "Evaluation", "FinetuneRequest",
    "FinetuneResult", "Inputs", "TunedWeights", "compress", "compress_onnx", "converted_model",
    "converted_scorer",
    "compressed_facts", "demonstrate", "described_facts", "files_of", "finetuned_facts",
    "scored_facts", "scored_on_dev", "timed_facts",
    "describe_file", "describe_model", "evaluate", "export", "finetune", "left_float", "plan",
    "prepare", "read_inputs", "read_training", "run", "run_finetune", "train",
    "tune_weights",
]  # fmt: skip
