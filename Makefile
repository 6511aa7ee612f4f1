# make run          install, run the default study
# make paper-quick  one trial of the paper's heatmap on Fashion-MNIST, about 22 minutes on two cores
# make paper        the whole paper: eight experiments, ten trials; for a GPU
# make plan         what a study will cost, before it runs: make plan STUDY=studies/paper.yaml
# make compare      two finished studies: make compare A=results/one B=results/other
# make test         unit and workflow tests;  make test-all  those and the published numbers
# make schema       what editors know of study files: studies/study.schema.json
# make docs         the pages of docs/ as a site in docs/_build/
# make lint         every check of style and types
# make clean        remove results;  make clean-all  also downloads and the environment
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake
# with GPUs, as many jobs on them at a time as there are
GPUS := $(filter-out 0,$(shell nvidia-smi --list-gpus 2>/dev/null | grep -c ^GPU))
PROFILE ?= $(if $(GPUS),gpu,default)
WHERE := --workflow-profile profiles/$(PROFILE)$(if $(filter gpu,$(PROFILE)),$(GPUS:%= --resources gpu=%))

# the study that make plan asks about
STUDY ?= config.yaml

.PHONY: run paper-quick paper plan compare install test test-all schema docs lint clean clean-all

run: install
	$(SNAKEMAKE) $(WHERE)

paper-quick: install
	$(SNAKEMAKE) $(WHERE) --configfile studies/paper_quick.yaml

paper: install
	$(SNAKEMAKE) $(WHERE) --configfile studies/paper.yaml

plan: install
	@$(BIN)/python benchmarks/plan.py $(WHERE) --configfile $(STUDY)

compare: install
	$(if $(and $(A),$(B)),,$(error name two folders: make compare A=results/one B=results/other))
	@$(BIN)/python scripts/compare_studies.py --a $(A) --b $(B) \
	  --output results/comparisons/$(notdir $(A:%/=%))-$(notdir $(B:%/=%)).html

install: .venv/installed

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	touch $@

# unit tests on all cores; those of the workflow start jobs on all of them themselves
test: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/unit
	$(BIN)/python -m pytest tests/workflow

test-all: test
	$(BIN)/python -m pytest tests/acceptance

schema: install
	PYTHONPATH=scripts $(BIN)/python -m noisetransfer.study_schema studies/study.schema.json

docs: install
	$(BIN)/python -c 'import myst_parser' || $(BIN)/pip install --quiet '.[docs]'
	$(BIN)/python -m sphinx -W -q docs docs/_build

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(SNAKEMAKE) --lint

clean:
	find results -mindepth 1 ! -name .gitkeep -delete

clean-all: clean
	rm -rf resources .venv .snakemake
