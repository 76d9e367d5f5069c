# Two commands do everything: `make demo` and `make test`. Each makes its own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# On Linux the registry's newest torch brings gigabytes of CUDA; this index has the CPU build. Empty: pip's own settings.
TORCH_INDEX ?=
WORKERS ?= 2

.PHONY: demo test lint types docs mutants clean make-easyvqa-llava bench-kill bench-quickstart bench-gemma \
	bench-heal-3bit bench-keeping bench-layerwise bench-quantize bench-modality bench-encoder \
	bench-gguf bench-vllm bench-agree bench-decode bench-plan bench-search sanitize soak check-deploy serve-harness

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch==2.13.0"
	$(BIN)/pip install --quiet -e ".[dev,models,parquet]"
	touch $@

demo: $(VENV)/.installed
	if [ -f runs/quickstart/recipe.resolved.yaml ]; then $(BIN)/trimtab resume runs/quickstart; \
	else $(BIN)/trimtab run quickstart --out runs/quickstart; fi

# Two tests at a time; threads that wait give their core away, or two models of two threads on two cores take eight times
# as long.
test: export OMP_WAIT_POLICY = passive
test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

# The compiled library by itself under the sanitizers, at every level of instructions that this CPU has, and that of AMX by
# tiles in plain C++.
sanitize:
	@mkdir -p build
	for one in address,undefined thread; do for tiles in "" "-include tests/native/tiles.h"; do \
	  $(CXX) -std=c++17 -O1 -g -pthread -Wno-psabi -fno-sanitize-recover=all -fsanitize=$$one $$tiles \
	    src/trimtab/native/*.cpp tests/native/stress.cpp -o build/stress && ./build/stress || exit 1; done; done

# lm-evaluation-harness against the server; in a folder of its own, since it brings some forty packages.
serve-harness: $(VENV)/.installed
	$(BIN)/pip install --quiet --target build/harness "lm_eval[api]>=0.4.13,<0.5"
	PYTHONPATH=$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))"):$(CURDIR)/build/harness \
	  $(BIN)/python -m pytest -q -m slow tests/serve/test_serve_harness.py

lint: $(VENV)/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/python -m trimtab.docs

mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants.py

make-easyvqa-llava: $(VENV)/.installed  # resumable; about an hour on two cores
	$(BIN)/python -m trimtab.zoo.make.train --out runs/make-easyvqa-llava
	$(BIN)/python -m trimtab.zoo.make.export runs/make-easyvqa-llava/state.safetensors src/trimtab/zoo/easyvqa-llava

bench-kill: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m slow

bench-quickstart: $(VENV)/.installed
	$(BIN)/python benchmarks/kept.py quickstart

bench-gemma: $(VENV)/.installed
	$(BIN)/python benchmarks/kept.py gemma-270m-w4

bench-heal-3bit: $(VENV)/.installed
	$(BIN)/python benchmarks/kept.py heal-3bit

bench-keeping: $(VENV)/.installed
	$(BIN)/python benchmarks/keeping.py

bench-layerwise: $(VENV)/.installed
	$(BIN)/python benchmarks/layerwise.py

# TEXT=DIR calibrates on files of yours, PEERS="nncf ..." asks only some; an hour or more, most of it the peers'.
# It goes on where it was stopped.
bench-quantize: $(VENV)/.installed
	$(BIN)/python benchmarks/quantize.py $(if $(TEXT),--text $(TEXT)) $(if $(PEERS),--peers $(PEERS))

bench-modality: $(VENV)/.installed
	$(BIN)/python benchmarks/modality.py

bench-encoder: $(VENV)/.installed
	$(BIN)/python benchmarks/encoder.py

bench-decode: $(VENV)/.installed  # llama.cpp and OpenVINO come as wheels, into environments of their own
	$(BIN)/python benchmarks/decode.py

bench-agree: $(VENV)/.installed  # beside llm-compressor's GPTQ and bitsandbytes' NF4
	$(BIN)/python benchmarks/agree.py

bench-vllm: $(VENV)/.installed  # vLLM comes as a wheel for CPUs, into an environment of its own (3.5 GB)
	$(BIN)/python benchmarks/invllm.py

bench-plan: $(VENV)/.installed  # what plans foresee beside what is measured; a quarter of an hour
	$(BIN)/python benchmarks/plan.py

bench-gguf: $(VENV)/.installed  # llama.cpp comes as a wheel, into an environment of its own
	$(BIN)/python benchmarks/llamacpp.py

bench-search: $(VENV)/.installed  # about an hour; it goes on where it was stopped
	$(BIN)/python benchmarks/search.py

soak: $(VENV)/.installed  # the server under load for three minutes, 10,000 drawn requests, kill -9; about 10 minutes
	$(BIN)/python benchmarks/soak.py

check-deploy: $(VENV)/.installed  # what `trimtab deploy` writes, read by vLLM (3.5 GB) and Ray in environments of their own
	$(BIN)/python benchmarks/deployed.py

clean:
	rm -rf $(VENV) build dist runs .mypy_cache .ruff_cache .pytest_cache
