# The short way to everything; Meson and Ninja do the work.
#
#   make          build/junto            make bench      ratios to this machine's roofline
#   make demo     the main job           make check-san  tests under the sanitizers
#   make test     all tests              make fuzz       ten minutes for each parser
#   make lint     format, tidy, floors   make install    command, library, man page

BUILD   ?= build
PREFIX  ?= /usr/local
SECONDS ?= 600
NODES   ?= 60000
C_FILES  = $(shell git ls-files '*.c' '*.h')

.PHONY: all demo mini-model test test-real bench check-san check-neon fuzz lint format deps install golden clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(if $(VERBOSE),-v,--quiet)

$(BUILD)/build.ninja:
	@tools/deps
	@meson setup $(BUILD) --prefix $(PREFIX) $(MESON_FLAGS) >/dev/null

demo: all
	@tools/demo

# The model that the demo uses, from nothing: downloads texts, trains for less than two
# hours.
mini-model: all
	@tools/mini-model

test: all
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs

# The real model of the demo: sensible answers, perplexity as transformers computes it.
test-real: all
	@tests/real/run $(BUILD)/junto

bench: all
	@bench/run

# Address and undefined-behaviour sanitizers on everything, thread sanitizer on what has
# threads.
check-san:
	@tools/deps
	@test -d $(BUILD)-asan || meson setup $(BUILD)-asan -Db_sanitize=address,undefined \
	    -Db_lundef=false --buildtype=debugoptimized >/dev/null
	@test -d $(BUILD)-tsan || meson setup $(BUILD)-tsan -Db_sanitize=thread \
	    -Db_lundef=false --buildtype=debugoptimized >/dev/null
	@ninja -C $(BUILD)-asan --quiet && meson test -C $(BUILD)-asan --no-rebuild --print-errorlogs \
	    --timeout-multiplier 4
	@meson test -C $(BUILD)-tsan --print-errorlogs \
	    --timeout-multiplier 4 \
	    --suite threads

# The kernels of AArch64, under emulation on other processors.
check-neon:
	@tools/check-neon $(BUILD)-neon

fuzz:
	@tools/deps
	@tests/fuzz/run $(SECONDS)

# How far clang's analyser follows a function: 225000 by itself, which takes four times as
# long. NODES=225000 looks closer.
ANALYSER = $(addprefix --extra-arg=,-Xclang -analyzer-config -Xclang max-nodes=$(NODES))

lint: $(BUILD)/build.ninja
	@clang-format-14 --dry-run --Werror $(C_FILES)
	@tools/check-floors
	@tools/check-headers
	@ninja -C $(BUILD) --quiet && tools/check-symbols $(BUILD)/libjunto.a
	@printf '%s\n' $(filter-out src/kernels/arm/%,$(filter src/%.c,$(C_FILES))) | \
	    xargs -P $$(nproc) -n 10 clang-tidy-14 --quiet -p $(BUILD) $(ANALYSER) 2>/dev/null

format:
	@clang-format-14 -i $(C_FILES)

deps:
	@tools/deps

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(BUILD)-*
