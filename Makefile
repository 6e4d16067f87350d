# The course as commands. `make` lists them. Each sets up .venv first, when it is missing or out of date.
# Parameters: make course PROFILE=smoke LESSONS="00 01" DEVICE=cpu DATA=flickr8k ROOT=folder SEED=1

PYTHON ?= python3
PROFILE ?= quick
LESSONS ?=
DEVICE ?= auto
DATA ?= scenes
ROOT ?=
SEED ?= 0
# Of `make nightly`.
SEEDS ?= 0 1 2
# Lessons at a time; each gets its share of the cores. Two at a time, all eight of the course took 1,173 s on two cores.
JOBS ?= 2
# Which lesson `make reset` resets, and a folder from which `make update` takes a newer version.
LESSON ?=
FROM ?=
# Where `make classroom` writes.
COURSE ?= classroom
# Extra arguments of pytest or JupyterLab, e.g. make test ARGS="-m 'not slow'", make lab ARGS=--no-browser
ARGS ?=

# Not overridable by accident from the environment: everything here runs in the checkout's own .venv.
override VENV := .venv
override PY := $(VENV)/bin/python
override STAMP := $(VENV)/.complete

RUN_OPTIONS = --profile $(PROFILE) --device $(DEVICE) --data $(DATA) --root "$(ROOT)" --seed $(SEED) --jobs $(JOBS) $(if $(strip $(LESSONS)),--lessons $(LESSONS))

.PHONY: help course test types gpu lab progress reset update build check execute lint doctor report benchmarks leaderboard results nightly release classroom site clean setup
.DEFAULT_GOAL := help

help: ## this list
	@echo 'make TARGET [PROFILE=quick] [LESSONS="00 01"] [DEVICE=auto] [DATA=scenes] [ROOT=folder] [SEED=0] [JOBS=2]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  %-11s %s\n' "$$name" "$$text"; done

course: $(STAMP) ## run the lessons, hold their numbers against what is expected, write the report
	$(PY) -m itr_lib.course all $(RUN_OPTIONS)

test: $(STAMP) ## every test but those of the night, every notebook in the smoke profile included
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

types: $(STAMP) ## the unit tests once more, with every call of the library held against its annotations
	ITR_TYPECHECK=1 $(PY) -m pytest -q -n 2 --dist loadfile --ignore-glob='*/test_notebooks*' -m 'not slow' $(ARGS)

gpu: $(STAMP) ## the tests that hold a GPU against the CPU; they fail where there is none
	ITR_GPU=1 $(PY) -m pytest -q tests/test_gpu.py $(ARGS)

lab: $(STAMP) ## JupyterLab on the learner's notebooks
	$(PY) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks $(ARGS)

progress: $(STAMP) ## what you have solved, what to repeat, and what is next
	@$(PY) -m itr_lib.course progress

reset: $(STAMP) ## a lesson as it was handed out: make reset LESSON=02 (your answers and the old notebook are kept)
	@$(PY) -m itr_lib.course reset "$(LESSON)"

update: $(STAMP) ## a newer version of the course under your answers: make update [FROM=folder]
	@$(PY) -m itr_lib.course update $(if $(strip $(FROM)),--from "$(FROM)")

build: $(STAMP) ## rebuild the notebooks from solutions/*.py
	$(PY) -m itr_lib.course build

check: $(STAMP) ## fail where a notebook differs from its source
	$(PY) -m itr_lib.course check

execute: $(STAMP) ## run the lessons and keep the outputs in solutions/*.ipynb (authors)
	$(PY) -m itr_lib.course execute $(if $(strip $(LESSONS)),--lessons $(LESSONS))

lint: $(STAMP) ## ruff and pyright; the schemas of workflows, issue forms, citation, devcontainer and Binder
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/lesson.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.citation-file-format --force-filetype yaml CITATION.cff
	$(PY) -m check_jsonschema --schemafile tests/schemas/devcontainer.json .devcontainer/devcontainer.json
	$(PY) -m check_jsonschema --schemafile tests/schemas/environment.json environment.yml .binder/environment.yml

doctor: $(STAMP) ## what this machine offers, and what to mend
	$(PY) -m itr_lib.course doctor

report: $(STAMP) ## the report of the last run of PROFILE, again
	$(PY) -m itr_lib.course report --profile $(PROFILE) --data $(DATA)

benchmarks: $(STAMP) ## how fast scoring is, in ratio to the bare matrix product
	$(PY) -m data_scripts.benchmarks

leaderboard: $(STAMP) ## the table of all models again, from the recorded runs and a run of the clock
	$(PY) -m data_scripts.leaderboard --data $(DATA) --root "$(ROOT)"

results: $(STAMP) ## the tables of README.md and docs/RESULTS.md again, from the recorded runs
	$(PY) -m data_scripts.results

nightly: $(STAMP) ## the tests of the night; three seeds, bands anew, what moved since the last release (maintainers)
	$(PY) -m pytest -q -n 2 -m nightly
	$(PY) -m data_scripts.nightly --profile $(PROFILE) --device $(DEVICE) --jobs $(JOBS) --seeds $(SEEDS) $(if $(strip $(LESSONS)),--lessons $(LESSONS)) $(ARGS)

release: $(STAMP) ## refuse where anything disagrees, else keep the numbers: make release VERSION=0.2.0 (maintainers)
	$(PY) -m data_scripts.release $(VERSION)

classroom: $(STAMP) ## a folder for nbgrader: make classroom COURSE=folder
	$(PY) -m itr_lib.course classroom "$(COURSE)"

# What failed is built anew: Sphinx names the faults of a page only when it reads it.
site: $(STAMP) ## the course as pages that need no network, in site/_build/html
	@$(PY) -c 'import furo, myst_nb' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev,site]'
	@$(PY) -m sphinx -q -W --keep-going -j $(JOBS) -c site -d site/_build/read . site/_build/html || { rm -rf site/_build; exit 1; }
	@echo "site: site/_build/html/index.html"

setup: $(STAMP) ## only set up .venv

clean: ## remove .venv, runs/ and what tools left (the data cache stays; `make doctor` names its folder)
	rm -rf $(VENV) runs build dist site/_build site/library .pytest_cache .ruff_cache itr_lib.egg-info

# The stamp is written last. Without it, what lies in .venv is the rest of an interrupted set-up: begin again.
# With an older one, bring the environment up to date in place. torch is pinned in the same call as everything
# else: an open range would let pip fetch another, far larger build of it.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "No '$(PYTHON)' here: install Python 3.11 or later, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version 2>&1) is too old: the course needs Python 3.11 or later. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) comes without its venv module: install it (Debian, Ubuntu: apt-get install python3-venv) or name another Python: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV): once, some minutes, about 2 GB"
	@if [ -f $(STAMP) ] && $(PY) -c '' 2>/dev/null; then rm -f $(STAMP); else $(PYTHON) -m venv --clear $(VENV); fi
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev]'
	@touch $(STAMP)
