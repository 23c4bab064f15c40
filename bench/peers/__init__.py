"""Scripts that run a model in its own engine, each under a Python that has that engine.

They import nothing of the project, but for one. `PYTHON bench/peers/NAME.py MODEL IN.npz OUT.npz`
runs the model over every array of IN, one utterance each, on one thread, and writes the outputs
under the same names, and `seconds`: the time of each. Those whose names end in `in_turns` take one
utterance at a time, as `turns.py` says.
"""
