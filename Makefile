# make            build/plain/raft/core.so, the C module
# make demo       install what is missing, build, and watch a cluster survive the loss of its leader (a minute)
# make cluster    three servers in the foreground, to play with redis-cli; Ctrl-C ends them
# make test       install what is missing, build, lint, run every spec: plain, ASan+UBSan, TSan
# make bench      measure a cluster of three processes; figures in build/bench.json (ONLY='cells=propose window=256')
# make bench-peers   side by side with libraft, etcd, Tarantool, redis-server and a ceiling; build/bench-peers.json
# make bench-growth  how cost grows with members, payload, length of the log, ...; with plots
# make guard      counts instructions of fixed works against stored figures (UPDATE=1 stores them)
# make sim        SEEDS=100 FROM=1: whole clusters in the simulator, by seed, on all cores; a failure is told and drawn
# make soak       the same from a seed by date, until it fails or Ctrl-C
# make zoo        plant bugs into copies of the sources; the simulator must catch each of them (ten minutes)
# make install    PREFIX=/usr/local, DESTDIR=
# make lint, make build-asan, make build-tsan, make build-clang, make deps, make clean
#
# One folder of specs, or one flavour:  lua5.4 spec/run.lua plain spec/core   (or, plain flavour: busted spec/core)

PREFIX ?= /usr/local
CC = gcc
LUA = lua5.4
CFLAGS = -O2 -g
WARNINGS = -Wall -Wextra -Werror
LUA_CFLAGS := $(or $(shell pkg-config --cflags lua5.4 2>/dev/null),-I/usr/include/lua5.4)

SOURCES := $(sort $(wildcard csrc/*/*.c))
MPACK := $(if $(shell grep -l 'mpack\.h' csrc/lua/*.c),-lmpack)
RULES := -std=c11 -fPIC -D_GNU_SOURCE -Icsrc $(LUA_CFLAGS)
LIBS := -luv $(MPACK)

# What a flavour adds to the flags, and its compiler when that is another one. Never liblua: the interpreter brings the
# VM. clang judges the sources, and what it makes of them has to run the simulator's seeds just as the others do.
SAN_plain :=
SAN_clang := -O0
CC_clang := clang
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_tsan := -fsanitize=thread

BUILD_PACKAGES := gcc libc6-dev lua5.4 liblua5.4-dev libuv1-dev libxxhash-dev $(if $(MPACK),libmpack-dev)
DEMO_PACKAGES := lua-luv redis-tools
TEST_PACKAGES := clang lua-busted lua-check luarocks valgrind
PEER_PACKAGES := libraft-dev liblz4-dev etcd-server golang-go golang-etcd-server-dev redis-server tarantool

JOBS := -j$(shell nproc)

.PHONY: all build build-asan build-tsan build-clang deps deps-test test lint demo cluster bench bench-peers bench-growth guard sim soak zoo install clean
.DELETE_ON_ERROR:

all: build
build: build/plain/raft/core.so
build-asan: build/asan/raft/core.so
build-tsan: build/tsan/raft/core.so
build-clang: build/clang/raft/core.so

define FLAVOUR
build/$(1)/raft/core.so: $(SOURCES:csrc/%.c=build/$(1)/%.o)
	@mkdir -p $$(@D)
	@echo "link     $$@"
	@$(or $(CC_$(1)),$(CC)) -shared $(CFLAGS) $(SAN_$(1)) $(LDFLAGS) -o $$@.new $$^ $(LIBS)
	@mv $$@.new $$@    # a process that has the old one loaded keeps it

build/$(1)/%.o: csrc/%.c Makefile
	@mkdir -p $$(@D)
	@echo "compile  $$@"
	@$(or $(CC_$(1)),$(CC)) $(RULES) $(CFLAGS) $(WARNINGS) $(SAN_$(1)) -MMD -MP -c $$< -o $$@
endef
$(foreach flavour,plain asan tsan clang,$(eval $(call FLAVOUR,$(flavour))))

-include $(wildcard build/*/*/*.d)

# Installs the packages of the list $(1) that are missing; says nothing and needs no rights when none is. Elsewhere than
# on Debian and its relatives the tools themselves tell what is missing.
define INSTALL
	@command -v dpkg-query >/dev/null || exit 0; \
	missing=$$(for p in $(1); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	[ -n "$$missing" ] || exit 0; \
	as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	echo "install " $$missing; \
	{ $$as_root apt-get update && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y \
	    --no-install-recommends $$missing; } >build/install.log 2>&1 \
	    || { tail -20 build/install.log; echo "Installing packages failed. As root:  apt-get install" $$missing; exit 1; }
endef

deps:
	@mkdir -p build
	$(call INSTALL,$(BUILD_PACKAGES) $(DEMO_PACKAGES))

deps-test:
	@mkdir -p build
	$(call INSTALL,$(BUILD_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES))

lint: build/clang/raft/core.so
	@luacheck --quiet --no-color lua spec examples rockspec .busted .luacheckrc

test: deps-test
	@$(MAKE) --no-print-directory $(JOBS) build build-asan build-tsan lint
	@$(LUA) spec/run.lua tsan asan plain   # the slowest first

# What runs programs from the checkout: the interpreter finds the Lua half and the plain build.
RUN = LUA_PATH='lua/?.lua;lua/?/init.lua;;' LUA_CPATH='build/plain/?.so;;' $(LUA)

demo: deps
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) examples/demo.lua

cluster: deps
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) examples/cluster.lua

# ONLY: a part of it, such as ONLY='cells=propose window=256 bytes=128 dir=disk seconds=3 runs=5'; with against=DIR in
# turns with another checkout.
bench: deps
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) spec/bench/bench.lua build/bench.json $(ONLY)

# Peers come from Debian (which may start them as services when it installs them); one that is missing is
# left out, and said to be.
bench-peers: deps
	-$(call INSTALL,$(PEER_PACKAGES))
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) spec/bench/peers.lua build/bench-peers.json $(ONLY)

bench-growth: deps
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) spec/bench/growth.lua build/bench-growth.json $(ONLY)

guard: deps-test
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) spec/bench/guard.lua $(if $(UPDATE),--update)

# WITH: other options of every seed, as a failure tells them: WITH='nodes=5 faults=crashes,disks'.
sim: deps-test
	@$(MAKE) --no-print-directory $(JOBS) build
	@$(RUN) spec/sim/run.lua $(MODE) seeds=$(SEEDS) from=$(FROM) with='$(WITH)'

soak: MODE = soak
soak: sim

# Bugs planted into copies of the sources, each of which the simulator must catch: BUG=words (of its name), SEEDS=200.
zoo: deps-test
	@$(MAKE) --no-print-directory $(JOBS) build
	@COMPILE='$(CC) $(RULES) $(CFLAGS)' LINK='$(CC) -shared $(CFLAGS) $(LDFLAGS) OBJECTS $(LIBS)' $(RUN) spec/zoo/zoo.lua

install: build
	install -d $(DESTDIR)$(PREFIX)/lib/lua/5.4/raft $(DESTDIR)$(PREFIX)/share/lua/5.4/raft $(DESTDIR)$(PREFIX)/bin
	install -m 755 build/plain/raft/core.so $(DESTDIR)$(PREFIX)/lib/lua/5.4/raft/
	install -m 644 lua/raft/*.lua $(DESTDIR)$(PREFIX)/share/lua/5.4/raft/
	install -m 755 lua/bin/raft $(DESTDIR)$(PREFIX)/bin/

clean:
	rm -rf build
