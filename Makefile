# make help lists the targets; ARGS="..." passes overrides, e.g. make train ARGS="trainer.max_epochs=2"
PYTHON ?= python3
ARGS ?=
# what make setup installs beside the core: dev, or onnx, ppocr, dashboard, study, or none; sweep has an environment and
# versions of its own, for Hydra's launchers
EXTRAS ?= dev
SWEEP := $(findstring sweep,$(EXTRAS))
VENV ?= $(if $(SWEEP),.venv-sweep,.venv)
CONSTRAINTS := $(if $(SWEEP),constraints-sweep.txt,constraints.txt)
PY := $(VENV)/bin/python
READY := $(VENV)/.ready-$(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help setup train audit finetune need-data need-dir test test-fast test-sweep sweep sweep-worker leaderboard evaluate \
	predict data doctor console browser test-console sync clean-runs dashboard bench soak fuzz lint docs schemas format clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make the environment in .venv (done by the others when needed)

# uv is taken from the machine, or put into the environment; a plain venv is the way without ensurepip, too
$(READY): pyproject.toml $(CONSTRAINTS)
	@echo "making the environment in $(VENV), once: about a minute with packages to download"
	@if [ ! -x $(PY) ]; then \
		if command -v uv >/dev/null; then uv venv -q --seed --python $(PYTHON) $(VENV); \
		else $(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make an environment: install python3-venv or uv" >&2; exit 2; }; fi; fi
	@if ! command -v uv >/dev/null && [ ! -x $(VENV)/bin/uv ]; then $(PY) -m pip install -q -c $(CONSTRAINTS) uv; fi
	@UV=$$(command -v uv || echo $(VENV)/bin/uv); \
		echo "opencv-python; sys_platform == 'never'" > $(VENV)/overrides.txt; \
		$$UV pip install -q --compile-bytecode --python $(PY) $(if $(SWEEP),--prerelease=allow) -c $(CONSTRAINTS) --override $(VENV)/overrides.txt \
			-e '.$(if $(filter-out none,$(EXTRAS)),[$(EXTRAS)])'
	@touch $@

train: $(READY)  ## train (default: synthetic receipts, two to four minutes on 2 cores), then test
	$(PY) runners/train.py $(ARGS)

finetune: need-data $(READY)  ## the bundled detector on your receipts: make finetune DATA=<folder of images and labels>
	@folder=$$(printf %s "$$DATA" | sed 's/"/\\"/g'); set -x; \
		$(PY) runners/train.py experiment=finetune "data.root=\"$$folder\"" $(ARGS)

need-data:
	@test -n "$$DATA" || { echo "error: say where your receipts are: make finetune DATA=<folder of images and labels>" >&2; exit 2; }

audit: need-data $(READY)  ## what is in a labelled set, and what is wrong with it: make audit DATA=<folder>
	@folder=$$(printf %s "$$DATA" | sed 's/"/\\"/g'); set -x; \
		$(PY) runners/audit.py "data.root=\"$$folder\"" $(ARGS)

sweep: $(READY)  ## many trainings, ranked: make sweep ARGS="+sweep=optimizer data=... data.root=..."
	$(PY) runners/train.py -m $(ARGS)

sweep-worker: need-dir $(READY)  ## one more worker of a sweep: make sweep-worker DIR=<its folder>
	$(PY) runners/sweep_worker.py "$$DIR" $(ARGS)

leaderboard: need-dir $(READY)  ## the ranking of a sweep, at any time: make leaderboard DIR=<its folder>
	@folder=$$(printf %s "$$DIR" | sed 's/"/\\"/g'); set -x; \
		$(PY) runners/leaderboard.py "dir=\"$$folder\"" $(ARGS)

need-dir:
	@test -n "$$DIR" || { echo "error: say which sweep: DIR=<folder of the sweep>" >&2; exit 2; }

evaluate: $(READY)  ## test a checkpoint: make evaluate ARGS="ckpt_path=... data=... data.root=..."
	$(PY) runners/test.py $(ARGS)

predict: $(READY)  ## find text in pictures: make predict SOURCE=<picture, folder or glob> ARGS="ckpt_path=... output=..."
	@source=$$(printf %s "$$SOURCE" | sed 's/"/\\"/g'); set -x; \
		$(PY) runners/predict.py $${source:+"source=\"$$source\"" overlays=true} $(ARGS)

data: $(READY)  ## write synthetic receipts to disk: make data ARGS="output=receipts count=100"
	$(PY) runners/make_data.py $(ARGS)

doctor: $(READY)  ## what stands between this machine and a recorded run
	$(PY) runners/doctor.py $(ARGS)

console: $(READY)  ## compose, start and watch runs in a browser: make console ARGS="data_folders=[...]"
	$(PY) runners/console.py $(ARGS)

sync: $(READY)  ## send W&B runs that are only on disk, and check that all of them arrived
	$(PY) runners/sync.py $(ARGS)

clean-runs: $(READY)  ## delete local W&B records that are synced; shows them and asks
	$(PY) runners/clean_runs.py $(ARGS)

dashboard: $(READY)  ## make the project's W&B workspace
	$(PY) runners/dashboard.py $(ARGS)

bench: $(READY)  ## where the time goes, each part beside its goal: make bench ARGS="bench=sample data=..."
	$(PY) runners/benchmark.py $(ARGS)

soak: $(READY)  ## train for 2,000 steps while faults are injected (some 10 minutes on 2 cores); writes soak.json
	$(PY) -m tests.soak $(ARGS)

fuzz: $(READY)  ## broken label files, outlines and maps, some 300,000 of them (half an hour on 2 cores)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(PY) -m pytest tests/fuzz -n auto --maxprocesses 8 --timeout 7200 $(ARGS)

test: $(READY)  ## run all tests, a core for each of their processes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

test-fast: $(READY)  ## run the tests that train nothing
	$(PY) -m pytest -m "not slow" $(ARGS)

test-sweep: $(READY)  ## run the tests of Hydra's launchers: make test-sweep EXTRAS=dev,sweep
	$(PY) -m pytest tests/sweeps/test_launchers.py -n 2 --dist worksteal $(ARGS)

browser:
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >/dev/null 2>&1 || \
		echo "no Chromium, and Debian's package cannot be installed: the tests in a browser are skipped"

test-console: browser $(READY)  ## run the tests of the console, with Debian's Chromium, which is installed where it can be
	$(PY) -m pytest tests/console $(ARGS)

lint: $(READY)  ## check style, types and the direction of imports
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && $(VENV)/bin/lint-imports

docs: $(READY)  ## rewrite the generated tables of the documentation
	$(PY) docs/generate.py

schemas: $(READY)  ## write .schemas/, with which editors complete and check configs/
	$(PY) docs/generate.py --schemas

format: $(READY)  ## bring the code to style
	$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

clean:  ## remove the environment and caches, not the runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info
