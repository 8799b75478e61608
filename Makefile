# `make run` and `make test` set up what they need; a second run starts at once.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# What is imported is compiled then: all modules of all packages take longer than the rest of an installation.
INSTALL = $(BIN)/pip --quiet --disable-pip-version-check install --no-compile
# libvirt-python has no wheel: it is built if libvirt-dev, pkg-config, a compiler and Python's headers are installed;
# without it its tests skip.
HEADERS = import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
LIBVIRT = $(shell pkg-config --exists libvirt 2>/dev/null && command -v gcc >/dev/null && \
  $(PYTHON) -c '$(HEADERS)' && echo $(VENV)/.libvirt)

# A fresh clone has no compiled modules: each process that a test starts would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-quick coverage check chaos fuzz bench bench-boots bench-libvirt bench-openstack bench-pace
.PHONY: bench-way-home no-regret hashes sbom release image audit clean

run: $(VENV)/.demo
	$(BIN)/bringup demo --directory .demo

# The gates of `check` are one of the tests.
test: $(VENV)/.dev
	$(BIN)/pytest

# Which lines and branches no test runs.  Measured apart: the tests take half as long again.
coverage: $(VENV)/.dev
	$(BIN)/pytest --cov --cov-report=term

# The decision core, the contracts on the simulated host and SQLite, and the oracle's replays: a minute or so, with no gate.
test-quick: $(VENV)/.dev
	$(BIN)/pytest --quick

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy bringup tests benchmarks docs release
	$(BIN)/lint-imports
	$(BIN)/oxlint --deny-warnings daemon/status/listener
	$(BIN)/python release/audit.py

# Killed at every boundary of the journal, and at 500 random moments: an hour or two.
chaos: $(VENV)/.dev
	CHAOS=full $(BIN)/pytest tests/chaos

# Hostile input at every border, different each time: FUZZ_TIMES times the cases of `make test`; prints the outcomes.
# A test that uses more than 8 GB of addresses fails.
fuzz: $(VENV)/.dev
	ulimit -v 8000000 && FUZZ=full $(BIN)/pytest tests/fuzz --timeout=7200

# Hosts of a region that starts at once, at a real Keystone and simulated, beside other ways: some fifteen minutes.
.PHONY: bench-region
bench-region: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python benchmarks/region.py $(SIZE)

bench: $(VENV)/.dev $(VENV)/.plain
	BENCH_PYTHON=$(VENV)/plain/bin/python $(BIN)/python benchmarks/run.py

# Real guests brought back in every way, side by side: some ten minutes; needs libvirtd and QEMU (see .ci/run).
bench-libvirt: $(VENV)/.dev $(VENV)/.plain
	$(if $(LIBVIRT),$(VENV)/plain/bin/pip --quiet install --constraint constraints.txt libvirt-python)
	BENCH_PYTHON=$(VENV)/plain/bin/python PYTHONPATH=tests $(BIN)/python benchmarks/real_guests.py $(SIZE)

# A thousand instances through a real nova-conductor, by us and by Nova's own loop: some five minutes; needs RabbitMQ.
bench-openstack: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python benchmarks/openstack.py $(SIZE)

# Real Linux guests that boot, with several paces: needs qemu-guest-agent beside what bench-libvirt needs.
# SIZE="14 8 --verify 30 --rounds 15" counts the verdicts on 210 healthy starts.
bench-boots: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python benchmarks/real_boots.py $(SIZE)

# Simulated hosts whose guests boot: the adaptive pace and fixed limits.
bench-pace: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python benchmarks/pace.py $(SIZE)

# Real guests until they have booted, by us, by nova-compute and by others: ten minutes; needs RabbitMQ, libvirtd, QEMU and
# qemu-guest-agent.
bench-way-home: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python benchmarks/way_home.py $(SIZE)

# Every situation of a host boot, by nova-compute alone and by bringup before it; writes docs/no-regret.md.
no-regret: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python docs/draw_no_regret.py

# The hashes of all packages on a host, from the pins; queries the index.
hashes: $(VENV)/bin/python
	$(INSTALL) --constraint constraints.txt uv packaging
	$(BIN)/python release/hashes.py

# The wheel of this commit, its SBOM, its provenance, SHA256SUMS: in dist/, reproducible.
release sbom: $(VENV)/.dev $(VENV)/.build
	$(VENV)/build/bin/python release/build.py HEAD dist --sbom-python $(BIN)/python

# The image and its SBOM, in dist/: make image BASE=...@sha256:...
IMAGE = bringup:0.1.0
image: $(VENV)/.dev
	@test -n "$(BASE)" || { echo "make image BASE=NAME@sha256:DIGEST: container/Containerfile describes how to query it" >&2; exit 64; }
	mkdir -p dist
	buildah build --file container/Containerfile --build-arg BASE=$(BASE) --tag $(IMAGE) .
	podman run --rm --entrypoint dpkg-query $(IMAGE) -W -f '$${Package} $${Version} $${Architecture}\n' > dist/image.debian
	podman run --rm --entrypoint /opt/bringup/bin/python $(IMAGE) -c "$$(cat release/listing.py)" > dist/image.python
	$(BIN)/python release/sbom.py --python dist/image.python --debian dist/image.debian > dist/image.cdx.json

# Queries an advisory service about every pin of a host; exits with 1 if it does not answer.
audit: $(VENV)/.dev
	$(BIN)/python release/audit.py
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip --quiet --disable-pip-version-check install pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes $(patsubst %,--requirement %,$(wildcard requirements/*.txt))

clean:
	rm -rf $(VENV) .demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --constraint constraints.txt --editable '.[demo]'
	touch $@

# As an operator installs it: packages of the tests would be imported too, and slow a start down.  keystoneauth1 is a peer.
# With the requirements of the driver for libvirt (bringup[network]); its binding is built by bench-libvirt.
# After .dev, not beside it: both build in this directory.
$(VENV)/.plain: pyproject.toml constraints.txt $(shell find daemon drivers placement bringup -name '*.py') | $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/plain
	$(VENV)/plain/bin/pip --quiet install --no-compile --constraint constraints.txt --force-reinstall '.[network]' keystoneauth1
	$(VENV)/plain/bin/python -m compileall -q $(VENV)/plain/lib
	rm -rf build
	touch $@

# The tools that build the wheel, and nothing else.
$(VENV)/.build: requirements/build.txt
	$(PYTHON) -m venv $(VENV)/build
	$(VENV)/build/bin/pip --quiet --disable-pip-version-check install --no-compile --require-hashes --only-binary :all: -r requirements/build.txt
	touch $@

$(VENV)/.libvirt: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --constraint constraints.txt libvirt-python
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(LIBVIRT) | $(VENV)/bin/python
	$(INSTALL) --constraint constraints.txt 'pip>=25.1'
	$(INSTALL) --constraint constraints.txt --editable '.[demo]' --group dev
	touch $(VENV)/.demo $@
