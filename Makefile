# Two thin commands: each makes one tool environment and calls tox. README.md says how to type it by hand.
PYTHON ?= python3
TOOLS := .tools
TOX := $(TOOLS)/bin/tox
# Interpreters that pyenv installed are not on PATH unless it was told so; tox finds what PATH has.
PYENV_ROOT ?= $(or $(shell pyenv root 2>/dev/null),$(HOME)/.pyenv)
empty :=
# uv brings certificates of its own, which a network with a proxy of its own does not have.
export UV_SYSTEM_CERTS ?= 1
export PATH := $(PATH):$(subst $(empty) $(empty),:,$(wildcard $(PYENV_ROOT)/versions/3.*/bin))

.PHONY: scenarios test lint pythons matrix coverage docs faults stability clean
scenarios: $(TOX)
	$(TOX) run -e scenarios -- $(ARGS)

test: $(TOX)
	$(TOX) run -e test $(if $(ARGS),-- $(ARGS))

lint: $(TOX)
	$(TOX) run -e lint,types

# The scenarios on every Python from 3.10 on that is here, with the newest nest-asyncio, nest-asyncio2
# and without either; a missing Python is named and skipped.
FACTORS ?= nest nest2 none
pythons: $(TOX)
	$(TOX) run $(foreach factor,$(FACTORS),-f $(factor)) -- $(ARGS)

matrix: $(TOX)
	$(TOX) run -e matrix -- $(ARGS)

coverage: $(TOX)
	$(TOX) run -e coverage -- $(ARGS)

# ARGS="--times 3 -m threads" for less; python tests/stability.py --help says more.
stability: $(TOX)
	$(TOX) run -e stability -- $(ARGS)

docs: $(TOX)
	$(TOX) run -e docs

faults: $(TOX)
	HARNESS_FAULTS=full $(TOX) run -e test -- tests/faults $(ARGS)

$(TOX):
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet 'tox>=4.25' 'tox-uv>=1.25'

clean:
	rm -rf $(TOOLS) .tox
