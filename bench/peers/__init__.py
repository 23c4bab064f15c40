"""Scripts that run a model in its own engine, each under a Python that has that engine.

They import nothing of the project. `PYTHON bench/peers/NAME.py MODEL IN.npz OUT.npz` runs the model
over every array of IN, one utterance each, on one thread, and writes the outputs under the same
names, and `seconds`: the time of each.
"""
