# Each target sets itself up in .venv. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NATIVE := $(shell find native CMakeLists.txt pyproject.toml -type f)
FORMATTED := $(shell find native bench -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name '*.inl')
# As many tests at a time as there are processors, each on one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: setup demo demo-deepspeech test test-all test-avx2 check format lib test-lib arm web wheel wheel-check fuzz fuzz-clang bench docs tables clean

setup: $(READY)

# torch first and alone, at a fixed version, so that pip does not choose a larger build of it.
$(READY): $(NATIVE)
	@PYTHON="$(PYTHON)" CXX="$(CXX)" sh native/check-tools.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[compress,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/tinyvox demo

# The same with a DeepSpeech that others trained, which is fetched from the package registry, or taken
# from ORIGINAL, its model.tflite.
demo-deepspeech: $(READY)
	$(BIN)/python models/armspeech/demo.py $(if $(ORIGINAL),--original "$(ORIGINAL)")

# What a newcomer runs: everything but what the markers of pyproject.toml leave to test-all.
test: $(READY)
	$(PYTEST)

# All tests: Arm under qemu, the benchmarks run quickly, the slow ones; the twenty slowest are named.
test-all: $(READY)
	$(PYTEST) -m "" --durations=20

# What calls the native runtime, on kernels for AVX2 alone, as a processor without AVX-512 runs it.
test-avx2: $(READY)
	TINYVOX_ISA=avx2 $(PYTEST) -m "runtime and not arm and not web and not bench and not slow"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)
	$(BIN)/python -m pytest tests/test_layering.py tests/test_structure.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

# The C library and its example, in build/lib; without Python.
lib:
	cmake -S . -B build/lib
	+cmake --build build/lib

# Its native tests, in build/lib.
test-lib:
	cmake -S . -B build/lib -DTINYVOX_TESTS=ON
	+cmake --build build/lib
	ctest --test-dir build/lib --output-on-failure

# The same for 64-bit Arm, with the native tests, in build/arm; needs g++-aarch64-linux-gnu.
arm:
	cmake -S . -B build/arm --no-warn-unused-cli --toolchain native/cmake/aarch64-linux-gnu.cmake -DTINYVOX_TESTS=ON
	+cmake --build build/arm

# For browsers, in build/web: the npm package in package/, the page in site/; needs Emscripten.
web:
	emcmake cmake -S . -B build/web --no-warn-unused-cli
	+cmake --build build/web --target tinyvox_web
	$(PYTHON) web/build.py build/web

# A wheel for this machine, in build/wheels; pyproject.toml says how cibuildwheel makes those for others.
wheel: $(READY)
	rm -rf build/wheels
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheels .

# The wheel in an empty environment, with numpy alone, hears a clip.
wheel-check: wheel
	rm -rf build/wheel-venv
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet build/wheels/*.whl
	$(BIN)/python wheels/as_wav.py models/commands/clips/00.opus build/wheels/00.wav
	build/wheel-venv/bin/python wheels/hear_clip.py build/wheels/00.wav

# Changes files and audio at random for SECONDS, with sanitizers, in build/fuzz. An input that finds a
# fault is kept there. SEED chooses others.
SECONDS ?= 60
SEED ?= 1
SANITIZED := -DTINYVOX_FUZZ=ON -DTINYVOX_SANITIZE=address,undefined,float-cast-overflow
fuzz:
	cmake -S . -B build/fuzz $(SANITIZED)
	+cmake --build build/fuzz
	build/fuzz/fuzz_file --seconds $(SECONDS) --seed $(SEED) --save build/fuzz native/fuzz/seeds/tvx
	build/fuzz/fuzz_ngram --seconds $$(($(SECONDS) / 4)) --seed $(SEED) --save build/fuzz native/fuzz/seeds/tvlm
	build/fuzz/fuzz_wav --seconds $$(($(SECONDS) / 4)) --seed $(SEED) --save build/fuzz native/fuzz/seeds/wav

# The same with Clang's libFuzzer, whose corpus stays in build/fuzz-clang from run to run.
fuzz-clang:
	cmake -S . -B build/fuzz-clang -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
		$(SANITIZED) -DTINYVOX_LIBFUZZER=ON
	+cmake --build build/fuzz-clang
	mkdir -p build/fuzz-clang/corpus
	build/fuzz-clang/fuzz_file -max_total_time=$(SECONDS) -seed=$(SEED) -max_len=4096 -timeout=20 \
		-dict=native/fuzz/tvx.dict -artifact_prefix=build/fuzz-clang/ \
		build/fuzz-clang/corpus native/fuzz/seeds/tvx

# The error rates, sizes and speeds of the bundled files; needs the speech corpora beside the project.
bench: $(READY)
	$(BIN)/python bench/commands.py

# The site, in build/site. (The variable silences an advertisement that is no warning of mkdocs.)
docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The tables of the documentation, from bench/results.
tables: $(READY)
	$(BIN)/python bench/tables.py

clean:
	rm -rf .venv build .cache
