"""Make the DeepSpeech files of this folder with Coqui STT's own training code.

It needs Python 3.7 with `coqui-stt-training==1.4.0`, `coqui-stt-ctcdecoder==1.4.0` and TensorFlow
1.15 (with `numpy<1.19` and `protobuf<3.21`), and `espeak-ng` for the clips:

    python make_fixtures.py WORK_FOLDER OUTPUT_FOLDER

A small network is trained for some steps on synthetic speech, exported in each form, and run by
TensorFlow; what it gave is in `expected.npz`.
"""

import csv
import os
import shutil
import struct
import subprocess
import sys

import numpy as np

SENTENCES = ("so be it", "to be or not", "it is the one", "two or three", "no one is here")
LETTERS = " abcdefghijklmnopqrstuvwxyz"
HIDDEN = "32"


def clips(folder):
    """Write the clips and their table; gives the table's path."""
    rows = []
    for i, text in enumerate(SENTENCES):
        path = os.path.join(folder, f"clip{i}.wav")
        subprocess.check_call(["espeak-ng", "-w", path + ".raw.wav", text])
        resample(path + ".raw.wav", path)
        rows.append((path, os.path.getsize(path), text))
    table = os.path.join(folder, "clips.csv")
    with open(table, "w") as file:
        writer = csv.writer(file)
        writer.writerow(("wav_filename", "wav_filesize", "transcript"))
        writer.writerows(rows)
    with open(os.path.join(folder, "alphabet.txt"), "w") as file:
        file.write("# one label a line\n" + "".join(c + "\n" for c in LETTERS))
    return table


def resample(source, target):
    """A WAV file of any rate as one of 16 kHz, by linear interpolation."""
    import wave

    with wave.open(source) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    places = np.arange(0, len(samples) - 1, rate / 16000)
    values = np.interp(places, np.arange(len(samples)), samples).astype(np.int16)
    with wave.open(target, "w") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(values.tobytes())


def run(module, folder, *options):
    """Run a program of the training package."""
    shared = (
        "--checkpoint_dir", os.path.join(folder, "checkpoint"),
        "--alphabet_config_path", os.path.join(folder, "alphabet.txt"),
        "--n_hidden", HIDDEN,
    )  # fmt: skip
    tools = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES="", PATH=tools)
    command = [sys.executable, "-W", "ignore", "-m", "coqui_stt_training." + module]
    subprocess.check_call(command + list(shared + options), env=environment)


def export(folder, target, name, *options):
    """Export the checkpoint, and take the file."""
    exported = os.path.join(folder, "export")
    run("export", folder, "--export_dir", exported, "--remove_export", "true", *options)
    shutil.copy(
        os.path.join(exported, "output_graph" + os.path.splitext(name)[1]),
        os.path.join(target, name),
    )


def memory_mapped(source, target):
    """The graph of a .pb file in TensorFlow's memory-mapped container: constants of 64 values or
    more as regions at multiples of 64 bytes, then the graph, the directory, and its place."""
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.util.memmapped_file_system_pb2 import MemmappedFileSystemDirectory
    from tensorflow.python.framework import tensor_util

    graph = GraphDef()
    with open(source, "rb") as file:
        graph.ParseFromString(file.read())
    data, directory = b"", MemmappedFileSystemDirectory()

    def add(name, region):
        data_now = data + b"\0" * (-len(data) % 64)
        entry = directory.element.add()
        entry.name, entry.offset = name, len(data_now)
        if hasattr(entry, "length"):
            entry.length = len(region)
        return data_now + region

    for i, node in enumerate(graph.node):
        if node.op != "Const" or node.attr["dtype"].type != 1:
            continue
        values = tensor_util.MakeNdarray(node.attr["value"].tensor)
        if values.size < 64:
            continue
        name = f"memmapped_package://const{i}"
        data = add(name, values.astype("<f4").tobytes())
        node.op = "ImmutableConst"
        dtype = node.attr["dtype"].type
        node.attr.clear()
        node.attr["dtype"].type = dtype
        node.attr["memory_region_name"].s = name.encode()
        for size in values.shape:
            node.attr["shape"].shape.dim.add().size = size
    data = add("memmapped_package://.", graph.SerializeToString())
    tail = directory.SerializeToString()
    with open(target, "wb") as file:
        file.write(data + tail + struct.pack("<Q", len(data)))


def expected(graph_file, target):
    """Run the frozen graph over three calls of 16 frames; store features and log-probabilities."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    graph = tf.GraphDef()
    with open(graph_file, "rb") as file:
        graph.ParseFromString(file.read())
    frames = np.random.RandomState(0).randn(48, 26).astype(np.float32)
    padded = np.pad(frames, ((9, 9), (0, 0)), "constant")
    windows = np.stack([padded[i : i + 19] for i in range(48)])
    hidden = int(HIDDEN)
    c = h = np.zeros((1, hidden), np.float32)
    outputs = []
    with tf.Session() as session:
        tf.import_graph_def(graph, name="")
        for i in range(0, 48, 16):
            probabilities, c, h = session.run(
                ["logits:0", "new_state_c:0", "new_state_h:0"],
                {
                    "input_node:0": windows[None, i : i + 16],
                    "input_lengths:0": [16],
                    "previous_state_c:0": c,
                    "previous_state_h:0": h,
                },
            )
            outputs.append(probabilities.reshape(16, -1))
    np.savez(target, features=frames, probabilities=np.concatenate(outputs))


def checkpoint(folder, target):
    """Take the last checkpoint, without what continues the training, and its alphabet."""
    source = os.path.join(folder, "checkpoint")
    with open(os.path.join(source, "checkpoint")) as file:
        last = os.path.basename(file.readline().split('"')[1])
    for name in (last + ".index", last + ".data-00000-of-00001", "alphabet.txt"):
        shutil.copy(os.path.join(source, name), os.path.join(target, name))
    with open(os.path.join(target, "checkpoint"), "w") as file:
        file.write(f'model_checkpoint_path: "/home/someone/checkpoints/{last}"\n')


def main(folder, target):
    """Make all files."""
    os.makedirs(folder, exist_ok=True)
    os.makedirs(target, exist_ok=True)
    table = clips(folder)
    run(
        "train", folder, "--train_files", table, "--train_batch_size", "1", "--epochs", "8",
        "--learning_rate", "0.001", "--skip_batch_test", "true", "--early_stop", "false",
    )  # fmt: skip
    export(folder, target, "graph.pb", "--export_tflite", "false")
    export(folder, target, "float.tflite", "--export_quantize", "false")
    export(folder, target, "int8.tflite", "--export_quantize", "true")
    memory_mapped(os.path.join(target, "graph.pb"), os.path.join(target, "graph.pbmm"))
    expected(os.path.join(target, "graph.pb"), os.path.join(target, "expected.npz"))
    checkpoint(folder, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
