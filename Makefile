# make repo      builds the project's packages and publishes one signed snapshot of them
# make runtime   installs them into images with one RUN each, audits and runs these
# make test      runs every test, with the real engine and the real package managers
# make test-all  runs those, too, that take long: more kills, places, larger files (add half an hour)
# make bench     measures against the peers, on this machine
#
# PROJECT=dir    the project to work on (default: examples/hello)
# PROFILE=name   how twostage is compiled: quick (the default: a first build takes some minutes) or release, which is
#                optimised as a whole

PROJECT ?= examples/hello
PROFILE ?= quick
TARGET = $(or $(CARGO_TARGET_DIR),target)
TWOSTAGE = $(TARGET)/$(PROFILE)/twostage
SOURCES := $(shell find Cargo.toml Cargo.lock src beneath builder engine image linking model package patches recipe reposerver \
	runtime-templates -type f -not -path '*/tests/*' -not -path '*/target/*')

.NOTPARALLEL:
.PHONY: all repo runtime serve test test-all bench lint setup base clean
all: repo runtime

repo: setup base $(TWOSTAGE)
	@$(TWOSTAGE) --project $(PROJECT) repo

# (A project that has published nothing yet is built first.)
runtime: setup base $(TWOSTAGE)
	@ls $(PROJECT)/.twostage/repository/channels/*.json > /dev/null 2>&1 || $(TWOSTAGE) --project $(PROJECT) repo
	@$(TWOSTAGE) --project $(PROJECT) runtime

serve: $(TWOSTAGE)
	@$(TWOSTAGE) --project $(PROJECT) serve

$(TARGET)/%/twostage: $(SOURCES)
	@scripts/setup.sh compiler
	cargo build --profile $* --locked
	@touch -c $@

setup:
	@scripts/setup.sh engine

# A project that cannot name a ready base makes its own, once.
base: setup
	@if [ -x $(PROJECT)/base.sh ]; then $(PROJECT)/base.sh; fi

test-all: export TWOSTAGE_TESTS = all
test test-all:
	@scripts/setup.sh compiler
	scripts/test.sh

bench: $(TARGET)/release/twostage
	@TWOSTAGE_ENGINE=docker scripts/setup.sh engine tests
	benches/run.py
	benches/repository.py
	benches/serving.py
	benches/images.py
	benches/engines.py
	benches/compile.py

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings

clean:
	cargo clean
