# Controlled ablation studies. `make help` lists the targets.
PYTHON ?= python3
# Several times faster than pip, where it is there; it reads no pip.conf, so that it may lack an index that pip has.
UV ?= $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCKED := --constraint constraints.txt --editable '.[dev]'
ABLATIONS := $(filter-out ablations/_%,$(wildcard ablations/*.py))
NAMES := $(ABLATIONS:ablations/%.py=%)
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu.py benchmarks/gpu_study.py,$(wildcard benchmarks/*.py))
# Two parts of at most four minutes each: make bench-gpu PART=step, and PART=study.
comma := ,
BENCHMARKS_OF_A_GPU := $(if $(filter step,$(PART)),gpu,$(if $(filter study,$(PART)),gpu_study,overhead loader step gpu gpu_study))
GPU_PARTS := $(if $(filter step,$(PART)),--parts ceiling$(comma)trial$(comma)bundle$(comma)step$(comma)photographs)

PROTOCOL ?= digits
SEEDS ?=
LOOKS ?=
MAX_SEEDS ?=
MAX_TIME ?=
MAX_GPU_HOURS ?=
MAX_COST ?=
PRICE_PER_GPU_HOUR ?=
TUNE ?=
SAMPLER ?=
PRUNING ?=
RUNGS ?=
SPACE ?=
SET ?=
STUDIES ?=
FILE ?=
DATA_ROOT ?=
RUNS ?=
STORAGE ?=
TRACKING_URI ?=
GPUS_PER_TRIAL ?= auto
BUNDLE_SIZE ?= auto
CPUS_PER_TRIAL ?= 1
WORKERS_PER_TRIAL ?= 1
FOR_ARM ?=
MAX_CONCURRENT ?= 0
RAY_ADDRESS ?=
PORT ?= 5000
ROUNDS ?= 1
DEVICE ?= cuda

STORE := $(if $(RUNS),--runs '$(RUNS)') $(if $(TRACKING_URI),--tracking-uri '$(TRACKING_URI)')
TUNING := $(if $(TUNE),--tune $(TUNE)) $(if $(SAMPLER),--sampler $(SAMPLER)) $(if $(PRUNING),--pruning $(PRUNING)) \
	$(if $(RUNGS),--rungs $(RUNGS)) $(foreach dimension,$(SPACE),--space $(dimension))
STUDY := --protocol $(PROTOCOL) $(if $(SEEDS),--seeds $(SEEDS)) $(foreach edit,$(SET),--set $(edit)) \
	$(if $(LOOKS),--looks $(LOOKS)) $(TUNING)
BUDGET := $(if $(MAX_TIME),--max-time $(MAX_TIME)) $(if $(MAX_GPU_HOURS),--max-gpu-hours $(MAX_GPU_HOURS)) \
	$(if $(MAX_COST),--max-cost $(MAX_COST)) $(if $(PRICE_PER_GPU_HOUR),--price-per-gpu-hour $(PRICE_PER_GPU_HOUR))
RUN := $(STUDY) $(BUDGET) $(if $(MAX_SEEDS),--until-resolved --max-seeds $(MAX_SEEDS)) $(STORE) $(if $(DATA_ROOT),--data-root '$(DATA_ROOT)') \
	--gpus-per-trial $(GPUS_PER_TRIAL) --bundle-size $(BUNDLE_SIZE) --cpus-per-trial $(CPUS_PER_TRIAL) --workers-per-trial $(WORKERS_PER_TRIAL) \
	--max-concurrent $(MAX_CONCURRENT) $(foreach arm,$(FOR_ARM),--for-arm '$(arm)') \
	$(if $(RAY_ADDRESS),--ray-address '$(RAY_ADDRESS)')

ifneq ($(STORAGE),)
export ABLATE_STORAGE := $(STORAGE)
endif

# Under `make -j2 study-depth study-lrn` the lines of several studies mix: each begins with its target's stem. The exit code
# stays the command's, and an interrupt is left to it.
LABELLED = $(if $(and $(filter -j%,$(MAKEFLAGS)),$(word 2,$(MAKECMDGOALS))),trap '' INT; \
	{ { { (trap - INT; $1); echo $$? >&3; } 2>&1 | while IFS= read -r line; do echo "$*: $$line"; done >&4; } 3>&1 | \
	{ read code; exit $$code; }; } 4>&1,$1)

REPORT = $(or $(RUNS),$(ABLATE_RUNS),runs)/reports/$*-$(PROTOCOL)

# A variable of a misspelled name would be ignored, and the default study run in place of the wanted one. Refused are only
# those given on make's own command line; the environment's, and make's own, are none of ours.
VARIABLES := PROTOCOL SEEDS LOOKS MAX_SEEDS MAX_TIME MAX_GPU_HOURS MAX_COST PRICE_PER_GPU_HOUR TUNE SAMPLER PRUNING RUNGS SPACE SET STUDIES FILE \
	DATA_ROOT RUNS STORAGE TRACKING_URI \
	GPUS_PER_TRIAL BUNDLE_SIZE CPUS_PER_TRIAL WORKERS_PER_TRIAL FOR_ARM MAX_CONCURRENT RAY_ADDRESS PORT ROUNDS PART DEVICE FULL WRITE PYTHON \
	UV VENV BIN
VARIABLES_OF_MAKE := SHELL MAKE MAKEFLAGS GNUMAKEFLAGS MAKEFILES MAKESHELL MAKE_TERMOUT MAKE_TERMERR CURDIR VPATH SUFFIXES .SHELLFLAGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(VARIABLES) $(VARIABLES_OF_MAKE) MAKEOVERRIDES -%,$(GIVEN))
SYNONYMS = SEED:SEEDS='$(SEED),' EPOCHS:SET=recipe.epochs=$(EPOCHS) EPOCH:SET=recipe.epochs=$(EPOCH) \
	LR:SET=recipe.learning_rate=$(LR) LEARNING_RATE:SET=recipe.learning_rate=$(LEARNING_RATE) \
	BATCH_SIZE:SET=recipe.batch_size=$(BATCH_SIZE) BATCHSIZE:SET=recipe.batch_size=$(BATCHSIZE) \
	GPU:GPUS_PER_TRIAL=$(GPU) GPUS:GPUS_PER_TRIAL=$(GPUS) NUM_GPUS:GPUS_PER_TRIAL=$(NUM_GPUS) CPU:CPUS_PER_TRIAL=$(CPU) \
	CPUS:CPUS_PER_TRIAL=$(CPUS) WORKERS:WORKERS_PER_TRIAL=$(WORKERS) DATA:DATA_ROOT=$(DATA) RUN:RUNS=$(RUN) \
	DATASET:PROTOCOL=$(DATASET) URI:TRACKING_URI=$(URI) OVERRIDES:SET=$(OVERRIDES) ABLATION:FILE=$(ABLATION)
ifneq ($(UNKNOWN),)
plain = $(shell printf '%s' '$1' | tr -d '_-' | tr a-z A-Z)
NAME := $(firstword $(UNKNOWN))
SAME := $(firstword $(foreach name,$(VARIABLES),$(if $(filter $(call plain,$(name)) $(call plain,$(name:S=)),$(call plain,$(NAME))),$(name)=$($(NAME)))))
SYNONYM := $(firstword $(patsubst $(NAME):%,%,$(filter $(NAME):%,$(SYNONYMS))))
SUGGESTION := $(or $(SYNONYM),$(SAME))
$(error $(NAME) is no variable of this Makefile.$(if $(SUGGESTION), Did you mean $(SUGGESTION)?) There are: $(VARIABLES))
endif

.DEFAULT_GOAL := help
.PHONY: help setup study studies calibration evidence status ui doctor sync gc test test-slow test-faults test-damage lint format bench bench-gpu docs docs-site clean

help: ## List the targets
	@echo "To start with:  make study-depth   make test"
	@echo
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'
	@echo
	@echo "Studies:   $(NAMES)"
	@echo "Settings:  PROTOCOL=digits|cifar10|cifar10-cpu  SEEDS=5  SET='recipe.epochs=5 ...'  DATA_ROOT=DIR|URI"
	@echo "           TUNE=8  PRUNING=halving  RUNGS=3  SAMPLER=random|tpe|grid  SPACE='recipe.learning_rate=x0.2..x5 ...'"
	@echo "           LOOKS=3,5,10 or MAX_SEEDS=10 (stop as soon as every claim is resolved)"
	@echo "           MAX_TIME=3h  MAX_GPU_HOURS=8  MAX_COST=20 PRICE_PER_GPU_HOUR=2.5 (stop at whole seeds; the same command goes on)"
	@echo "           GPUS_PER_TRIAL=0.5  BUNDLE_SIZE=4  CPUS_PER_TRIAL=2  WORKERS_PER_TRIAL=2  FOR_ARM='E:gpus=2 ...'  MAX_CONCURRENT=2"
	@echo "           RAY_ADDRESS=HOST:PORT  RUNS=DIR  STORAGE=DIR|URI  TRACKING_URI=URI  PORT=5000"
	@echo "           FILE=my_ablation.py (study)  STUDIES='residual depth' (evidence)  ROUNDS=20 (test-faults, test-damage)"
	@echo "           FULL=1  WRITE=1 (bench, bench-gpu)  PART=step|study  DEVICE=cuda (bench-gpu)  PYTHON=python3  VENV=DIR  BIN=DIR  UV="

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few GB, once; it takes some minutes)$(if $(UV), with $(UV))"
	@if ! { [ -n '$(UV)' ] && $(UV) pip install --quiet --python $(BIN)/python $(LOCKED); }; then \
		[ -z '$(UV)' ] || echo "uv failed; trying pip"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCKED); \
	fi
	@touch $@

setup: $(READY) ## Create the virtual environment; other targets do so when it is missing
	@echo "Installed in $(VENV). This makes ablate a command of your shell: source $(BIN)/activate"

study-%: $(READY) ## Run a study and compile its report: make study-depth
	@$(call LABELLED,$(BIN)/ablate run $* $(RUN) --report)

studies: $(READY) ## Run every study one after the other, and compile their reports and a summary
	@for name in $(NAMES); do \
		$(BIN)/ablate run $$name $(RUN) --report; code=$$?; \
		[ $$code -lt 128 ] || exit $$code; \
		if [ $$code -eq 3 ]; then stopped="$$stopped $$name"; elif [ $$code -ne 0 ]; then failed="$$failed $$name"; fi; \
	done; \
	$(BIN)/ablate report --all --protocol $(PROTOCOL) $(STORE) || failed="$$failed report"; \
	[ -z "$$stopped" ] || echo "Stopped at their budgets:$$stopped. The same command goes on."; \
	[ -z "$$failed" ] || { echo "Failed:$$failed. The others are done."; exit 1; }

study: $(READY) ## Run the study of your own ablation file: make study FILE=./my_ablation.py
	@test -n '$(FILE)' || { echo "Name the file: make study FILE=./my_ablation.py"; exit 1; }
	@$(BIN)/ablate run '$(FILE)' $(RUN) --report

report-%: $(READY) ## Compile a study's report from the tracking store, without training
	@$(BIN)/ablate report $* --protocol $(PROTOCOL) $(STORE)

latex-%: ## Typeset a study's report for print: make latex-depth (needs pdflatex)
	@command -v pdflatex >/dev/null || { echo "pdflatex is missing. On Debian or Ubuntu: apt-get install texlive-latex-recommended lmodern"; exit 1; }
	@test -f $(REPORT)/report.tex || { echo "$(REPORT)/report.tex is missing. Compile the report first: make report-$*"; exit 1; }
	@cd $(REPORT) && for pass in 1 2; do pdflatex -interaction=nonstopmode -halt-on-error report.tex >report.out \
		|| { grep -A 3 '^!' report.out; echo "See $(REPORT)/report.out for the rest"; exit 1; }; done; rm report.out
	@echo $(REPORT)/report.pdf

show-%: $(READY) ## Preview a study: arms, changes, trials, estimated time
	@$(BIN)/ablate show $* $(STUDY)

calibration: $(READY) ## Train every arm of depth under 200 seeds, and write the rule's error rates to docs (hours)
	@$(BIN)/ablate calibrate depth --protocol $(PROTOCOL) --seeds $(or $(SEEDS),200) $(STORE) --gpus-per-trial $(GPUS_PER_TRIAL) $(BUDGET)
	@$(BIN)/python docs/calibration.py $(or $(RUNS),$(ABLATE_RUNS),runs)/reports/calibration-depth-$(PROTOCOL)-error-rates

evidence: $(READY) ## Run the papers' studies in pieces, and write docs/results: make evidence PROTOCOL=cifar10 MAX_TIME=12m
	@$(BIN)/python docs/evidence.py $(foreach study,$(STUDIES),--study $(study)) $(RUN)

status: $(READY) ## Show the progress of all studies
	@$(BIN)/ablate status $(STORE)

status-%: $(READY) ## Show the progress of a study
	@$(BIN)/ablate status $* $(STORE)

ui: $(READY) ## Open the MLflow UI on the tracking store (Ctrl-C stops it)
	@$(BIN)/ablate ui $(STORE) --port $(PORT)

export-%: $(READY) ## Pack a study into one file, with checksums: make export-depth
	@$(BIN)/ablate export $* -o $*.zip --protocol $(PROTOCOL) $(STORE)

doctor: $(READY) ## Check installation, devices, runs folder and tracking store; with DATA_ROOT also the data
	@$(BIN)/ablate doctor $(STORE) $(if $(DATA_ROOT),--protocol $(PROTOCOL) --data-root '$(DATA_ROOT)') $(if $(RAY_ADDRESS),--ray-address '$(RAY_ADDRESS)')

sync: $(READY) ## Log results that the tracking store misses, without training
	@$(BIN)/ablate sync $(STORE)

gc: $(READY) ## List what no study needs, and free it once confirmed
	@$(BIN)/ablate gc $(STORE)

# A worker that dies ends the run at once, with the name of its test: xdist 3.8 would replace it, and then wait for ever.
IN_PARALLEL := -n auto --dist loadgroup --max-worker-restart 0
test: $(READY) ## Run the tests; the long ones are those of test-slow
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

test-slow: $(READY) ## Run the tests that are long by nature: clusters, every fault, full grids of bit equality
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m slow

test-faults: $(READY) ## Inject faults into a running study, ROUNDS times: make test-faults ROUNDS=20
	@$(BIN)/python -W ignore -m tests.faults --rounds $(ROUNDS) $(if $(WRITE),--write)

test-damage: $(READY) ## Damage stored files at random, 500 times, and judge what the commands say (seven minutes)
	@$(BIN)/python -W ignore -m tests.faults.damage --rounds 500

lint: $(READY) ## Check style, docstrings and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY) ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## Run quick benchmarks, or full ones with FULL=1; WRITE=1 saves the results
	@for file in $(BENCHMARKS); do echo "== $$file"; \
		$(BIN)/python -W ignore $$file $(if $(FULL),,--quick) $(if $(WRITE),--write) || exit 1; done

bench-gpu: ## Run the GPU benchmarks with any Python that has torch and Lightning: make bench-gpu PYTHON=python3
	@for name in $(BENCHMARKS_OF_A_GPU); do echo "== $$name"; PYTHONPATH=. \
		$(PYTHON) -W ignore benchmarks/$$name.py --device $(DEVICE) $(GPU_PARTS) $(if $(FULL),,--quick) $(if $(WRITE),--write) || exit 1; done

docs: study-depth ## Regenerate the tables of the docs and the picture of the README (needs chromium)
	@$(BIN)/python docs/pictures.py
	@$(BIN)/python docs/catalogue.py
	@$(BIN)/python docs/reference.py
	@$(BIN)/python docs/architecture.py

docs-site: $(READY) ## Build the documentation site into site/, without a network; dead links fail
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo site/index.html

clean: ## Remove the virtual environment; runs and data stay
	rm -rf $(VENV)
