# Needs Python, git and make. `make` alone lists what there is.

STACKS := k2 tfk k3-tf k3-jax k3-torch
TOOLS := .env-tools
TOX := $(TOOLS)/bin/tox

# The Keras that `make demo` installs; on Linux, TensorFlow without its GPU parts.
TF_CPU := tensorflow-cpu; sys_platform == 'linux' and platform_machine == 'x86_64'
TF_ANY := tensorflow; sys_platform != 'linux' or platform_machine != 'x86_64'
KERAS_k2 := 'numpy<2' 'tensorflow-addons==0.23.0' 'tensorflow-cpu==2.15.1'
KERAS_tfk := "$(TF_CPU)" "$(TF_ANY)" 'keras>=3.3' tf_keras
KERAS_k3-tf := "$(TF_CPU)" "$(TF_ANY)" 'keras>=3.3'
KERAS_k3-jax := jax 'keras>=3.3'
KERAS_k3-torch := torch==2.13.0 'keras>=3.3'

.DEFAULT_GOAL := help
.PHONY: help demo test matrix kills bench test-device bench-device lint docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
	@echo 'STACK is one of $(STACKS); for make test also lint, dist, docs or core'

demo: STACK ?= k3-tf
demo: ## train on digits, show what goes wrong with BatchNormalization and how it is repaired (STACK=k3-tf)
	@$(if $(KERAS_$(STACK)),,echo 'STACK is one of $(STACKS), not $(STACK)' >&2; exit 2)
	@test -d .env-demo/$(STACK) || echo 'Installs this package with its demo extra and Keras for $(STACK) into .env-demo/$(STACK): once, 1 to 2.5 GB.'
	@tools/make_venv.sh .env-demo/$(STACK) $(if $(filter k2,$(STACK)),"3.11 3.10","3.11 3.12 3.13 3.10") \
		-e '.[demo]' $(KERAS_$(STACK))
	@tools/with_stack.sh $(STACK) .env-demo/$(STACK)/bin/bnguard demo $(ARGS)

test: $(TOX) ## all stacks, style, types, import contracts, built package (STACK=... for one, TEST=... for a file)
	@test -d .tox || echo 'Installs each stack and the tools into .tox: once, 1 to 2.5 GB a stack. Then runs the tests of $(or $(STACK),all five).'
	@tools/run_tox.sh $(STACK) $(if $(TEST),-- $(TEST))

matrix: ## reduced tests on every promised version of Keras; into docs/versions.md (NAMES='k2-2.12 ...' for some)
	@python3 tools/matrix.py $(NAMES)

kills: $(TOX) ## SIGKILL scheduled runs at ten random steps, resume, compare bit for bit (STACK=... for one)
	@BNGUARD_KILLS=$(or $(KILLS),10) tools/run_tox.sh $(or $(STACK),$(STACKS)) -- -m slow tests/guarantees/test_resume.py

bench: BENCH_STACK = $(or $(STACK),k3-torch)
bench: ## ratios of our work and the same work without us, on the CPU (STACK=k3-torch)
	@tools/with_stack.sh $(BENCH_STACK) env BNGUARD_STACK=$(BENCH_STACK) PYTHONPATH=. \
		$(or $(PYTHON),.tox/$(BENCH_STACK)/bin/python) benchmarks/device.py $(ARGS)

test-device: ## guarantees, backends, phases and data on the GPU, if one is there (STACK=k3-jax or k3-torch, TEST=...)
	@tools/on_device.sh "$(STACK)" test $(TEST)

bench-device: ## the ratios of `make bench` and those of ResNet50 on the GPU, if one is there (the same STACK)
	@tools/on_device.sh "$(STACK)" bench $(or $(ARGS),--resnet 192)

lint: $(TOX) ## style, types and import contracts
	@tools/run_tox.sh lint

docs: $(TOX) ## the docs site into build/site; a warning is an error
	@tools/run_tox.sh docs

$(TOX):
	@tools/make_venv.sh $(TOOLS) "3.11 3.12 3.13 3.10" 'tox>=4.20,<5'

clean: ## remove every environment and everything that was built
	rm -rf .env-demo .env-matrix $(TOOLS) .tox build dist demo_out *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
