# Every target makes its own set-up: `make demo` and `make test` work on a machine with nothing but Python 3.11.
PYTHON ?= python3
# The tested CPU build. It goes in first: otherwise pip takes a CUDA build and gigabytes with it.
TORCH ?= torch==2.13.0
# Which of the versions that pyproject.toml allows: pip takes the newest that this Python can have.
MEGATRON ?= megatron-core
BIN := .venv/bin
STAMP := .venv/installed

SLURM := slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2 procps
# Megatron-Bridge wants an older transformers: it gets a virtual environment of its own (3 GB).
BRIDGE ?= .venv-bridge
# A Python for which pip has another version of megatron-core, and an environment for it.
OTHER ?= python3.12
VERSION := .venv-other
# Transformer Engine for GPUs that are made of main memory: seen by those tests alone.
ENGINE := .venv/engine

.PHONY: install demo test test-slurm test-standin gpu test-nemo-run test-faults test-bridge test-versions lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv || { echo "no venv module: install it (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable '.[dev]' "$(MEGATRON)"
	touch $@

# A small English model is pretrained, then adapted to Turkish on two tensor-parallel ranks: on the CPU, as there may be
# fewer GPUs than that.
demo: export CUDA_VISIBLE_DEVICES =
demo: $(STAMP)
	$(BIN)/python -m nemo_adapt.smallworld runs/smallworld
	$(BIN)/nemo-adapt run recipe=demo_base
	$(BIN)/nemo-adapt run recipe=demo

# Two workers: a test that waits for ranks to start leaves a core to the other. One thread each: on a machine that is busy too,
# OpenMP's idle threads keep the core that the other worker needs.
test test-standin: export OMP_NUM_THREADS = 1
# On the CPU, wherever it is.
test: export CUDA_VISIBLE_DEVICES =
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# A real Slurm of three nodes on this machine, as root. Debian's packages are installed where they are missing.
test-slurm: $(STAMP)
	@missing=; for tool in slurmctld slurmd sbatch munged ip pkill; do command -v $$tool > /dev/null || missing=$$tool; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" != 0 ]; then echo "not root, and no $$missing: install $(SLURM)"; exit 1; fi; \
	[ -z "$$missing" ] || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SLURM); }
	$(BIN)/python -m pytest tests/slurm

# What runs on GPUs, on GPUs that are made of main memory: which tensor is where, what ranks send. With our layers and torch's
# Adam, and with Transformer Engine's (half an hour).
ON_STANDIN := NEMO_ADAPT_STANDIN=$(CURDIR)/.venv/standin.so PYTHONPATH=$(CURDIR)/tests/standin
test-standin: $(STAMP) .venv/standin.so $(ENGINE)/installed
	$(ON_STANDIN) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		tests/standin tests/distributed tests/e2e tests/unit/evaluate tests/unit/resize tests/unit/train
	$(ON_STANDIN) NEMO_ADAPT_STANDIN_ENGINE=$(CURDIR)/$(ENGINE) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		tests/standin tests/distributed tests/e2e/test_road.py

# Its Python, as megatron-core 0.16 wants it (8 MB): its kernels are in other packages, and are not for this machine.
$(ENGINE)/installed: $(STAMP)
	rm -rf $(ENGINE)
	$(BIN)/python -m pip install --quiet --no-deps --target $(ENGINE) transformer_engine==2.11.0 einops
	touch $@

# The same on this machine's GPUs, with its own Python (a container's, or PYTHON=.venv/bin/python), and what a training reaches
# there. What needs more GPUs than there are is skipped.
gpu: export PYTHONPATH = $(CURDIR)
gpu:
	$(PYTHON) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("no GPU, or a torch without CUDA")'
	$(PYTHON) -m pytest tests/distributed tests/unit/evaluate tests/unit/resize tests/unit/train
	$(PYTHON) benchmarks/train.py

.venv/standin.so: tests/standin/device.cpp $(STAMP)
	@command -v g++ > /dev/null || { [ "$$(id -u)" = 0 ] || { echo "no g++: install it (Debian: apt-get install g++)"; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++; }
	torch=$$($(BIN)/python -c 'import sys, torch; torch.version.cuda and sys.exit("this torch knows CUDA: run pytest on a GPU"); \
		print(torch.__path__[0])') && \
		g++ -std=c++20 -O1 -fPIC -shared $< -o $@ -I$$torch/include -L$$torch/lib -lc10 -ltorch_cpu -Wl,-rpath,$$torch/lib

# NeMo-Run brings many packages: it gets an environment of its own, which sees ours.
test-nemo-run: $(STAMP)
	$(PYTHON) -m venv .venv-nemo-run
	.venv-nemo-run/bin/python -m pip install --quiet nemo-run 'leptonai<0.28'
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		"$$(.venv-nemo-run/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	.venv-nemo-run/bin/python -m pytest tests/unit/launch/test_nemo_run.py

# One rank, and all ranks, are killed at ten random moments each; settings, phases and layouts drawn at random (half an hour).
test-faults: $(STAMP)
	NEMO_ADAPT_KILLS=10 NEMO_ADAPT_COMBINATIONS=40 $(BIN)/python -m pytest tests/e2e/test_training_faults.py \
		tests/distributed/test_training_combinations.py tests/distributed/test_training_peer.py

# Our checkpoints and recipes in Megatron-Bridge, its checkpoints here, on the CPU (some minutes).
test-bridge: $(STAMP) $(BRIDGE)/installed
	NEMO_ADAPT_BRIDGE=$(BRIDGE)/bin/python $(BIN)/python -m pytest tests/bridge

$(BRIDGE)/installed: tests/bridge/requirements.txt
	$(PYTHON) -m venv $(BRIDGE)
	$(BRIDGE)/bin/python -m pip install --quiet "$(TORCH)"
	$(BRIDGE)/bin/python -m pip install --quiet --requirement tests/bridge/requirements.txt
	$(BRIDGE)/bin/python -m pip install --quiet --no-deps megatron-bridge==0.3.1
	$(BRIDGE)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@

# Trainings that begin with one version of megatron-core and go on with another (OTHER, a Python: its newest).
test-versions: $(STAMP) $(VERSION)/installed
	NEMO_ADAPT_OTHER_PYTHON=$(CURDIR)/$(VERSION)/bin/python $(BIN)/python -m pytest tests/e2e/test_other_versions.py

$(VERSION)/installed: pyproject.toml
	$(OTHER) -m venv $(VERSION)
	$(VERSION)/bin/python -m pip install --quiet "$(TORCH)"
	$(VERSION)/bin/python -m pip install --quiet --editable .
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf .venv .venv-nemo-run .venv-bridge .venv-other runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
