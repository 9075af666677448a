# clattn: multi-head attention on OpenCL devices and on the CPU.
# `make help` lists the targets, CONTRIBUTING.md explains the layout.
#
# Variables: CC (with a prefix, as aarch64-linux-gnu-gcc: for another machine),
# CFLAGS, LDFLAGS, BUILD (build directory), PREFIX, DESTDIR, WERROR=1,
# SANITIZE=address,undefined or SANITIZE=thread.

comma := ,
hash := \#
space := $() $()
BUILD ?= build$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))
PREFIX ?= /usr/local
bindir ?= $(PREFIX)/bin
libdir ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
mandir ?= $(PREFIX)/share/man
module_dir := $(libdir)/clattn
sharedir ?= $(PREFIX)/share/clattn
# The model that `clattn view` looks at unless another is named.
SHIPPED_MODEL := data/northanger.safetensors
# What is installed: that and what examples of the manual look at.
SHARED_MODELS := $(SHIPPED_MODEL) data/dates.safetensors
PKG_CONFIG ?= pkg-config
CLANG_FORMAT ?= clang-format
CFLAGS ?= -O2 -g

# A cross compiler brings its archiver; what runs here is compiled for here.
cross := $(patsubst %gcc,%,$(filter %-gcc,$(notdir $(firstword $(CC)))))
ifeq ($(origin AR),default)
  AR := $(cross)ar
endif
HOST_CC ?= $(if $(cross),cc,$(CC))

version_part = $(shell sed -n 's/^.define CLATTN_VERSION_$(1) //p' \
                 include/clattn.h)
VERSION := $(call version_part,MAJOR).$(call version_part,MINOR).$(call \
             version_part,PATCH)
ABI := 0

sanitize := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
              -fno-sanitize-recover=all)
# Flags that the code needs; CFLAGS is the user's.
flags = -std=c11 -Wall -Wextra -Wpedantic $(if $(WERROR),-Werror) $(CFLAGS) \
        -fvisibility=hidden -fPIC -pthread -D_POSIX_C_SOURCE=200809L \
        -DCLATTN_BUILDING -Iinclude -Isrc $(sanitize)
ldflags = $(LDFLAGS) -pthread $(sanitize)
CORE_LIBS := -lm -ldl -pthread

# ---- what is there ----------------------------------------------------------
probe = $(shell printf '$(hash)include <$(1)>\nint main(void) { return 0; }\n' | \
          $(CC) -x c - $(2) -o /dev/null 2>/dev/null && echo yes)
HAVE_OPENCL := $(call probe,CL/cl.h,-lOpenCL)
machine := $(shell $(CC) -dumpmachine)
X86_64 := $(filter x86_64%,$(machine))
X86_32 := $(filter i386% i486% i586% i686%,$(machine))

KIT_PKGS := jansson libpcre2-8 libutf8proc
KIT_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(KIT_PKGS) 2>/dev/null)
KIT_LIBS := $(or $(shell $(PKG_CONFIG) --libs $(KIT_PKGS) 2>/dev/null), \
                 -ljansson -lpcre2-8 -lutf8proc)
HAVE_KIT := $(call probe,jansson.h,$(KIT_CFLAGS) $(KIT_LIBS))

# Without these, viewing has no PNG and SVG.
PICTURE_PKGS := pangocairo
PICTURE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PICTURE_PKGS) 2>/dev/null)
PICTURE_LIBS := $(shell $(PKG_CONFIG) --libs $(PICTURE_PKGS) 2>/dev/null)
HAVE_PICTURES := $(if $(HAVE_KIT),$(if $(PICTURE_LIBS),$(call \
                   probe,pango/pangocairo.h,$(PICTURE_CFLAGS) $(PICTURE_LIBS))))

# Sources that use what is not there are left out.
absent := $(if $(HAVE_OPENCL),,clattn_cl\.h|CL/) $(if $(HAVE_KIT),,clattn_(kit|gpt|text|model|seq2seq|attention|view)\.h)
absent := $(subst $(space),|,$(strip $(absent)))
users = $(if $(absent),$(if $(1),$(shell grep -lE 'include .($(absent))' $(1))))
buildable = $(filter-out $(call users,$(1)),$(1))

CORE_SRC := $(wildcard src/core/*.c src/attention/*.c src/nn/*.c \
              $(filter-out src/cpu/kernels.c,$(wildcard src/cpu/*.c)))
OCL_SRC := $(wildcard src/ocl/*.c)
KIT_SRC := $(if $(HAVE_KIT),$(wildcard src/kit/*.c src/kit/*/*.c))
# Drawing is in files of its own, named picture*.c.
VIEW_SRC := $(if $(HAVE_KIT),$(filter-out $(if $(HAVE_PICTURES),, \
              src/view/picture%.c),$(wildcard src/view/*.c)))
CLI_SRC := $(if $(HAVE_KIT),$(filter-out src/cli/bench_vector.c, \
             $(wildcard src/cli/*.c)))
EXAMPLES := $(call buildable,$(wildcard examples/*.c))
BENCHES := $(call buildable,$(filter-out bench/shim%,$(wildcard bench/*.c)))
CL_SRC := $(wildcard cl/*.cl cl/*.h)
WEB_SRC := $(wildcard src/view/web/*.html src/view/web/*.css src/view/web/*.js)
SHAPES := $(wildcard bench/shapes/*.txt)
HEADERS := $(filter-out $(if $(HAVE_KIT),,%_kit.h %_gpt.h %_text.h %_model.h %_seq2seq.h %_attention.h %_view.h),$(wildcard include/*.h))
SHELL_TESTS := $(if $(HAVE_KIT),$(wildcard tests/shell/*.sh))
TEST_PROGRAMS := $(call buildable,$(wildcard tests/programs/*.c))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
isas := base $(if $(X86_64),avx2 avx512)
CORE_OBJ := $(call obj,$(CORE_SRC)) $(if $(wildcard src/cpu/kernels.c), \
              $(isas:%=$(BUILD)/obj/src/cpu/kernels.%.o))
OCL_OBJ := $(call obj,$(OCL_SRC)) $(BUILD)/obj/cl_sources.o
# What several libraries have a copy of.
SHARED_OBJ := $(call obj,$(wildcard src/shared/*.c))
KIT_OBJ := $(call obj,$(KIT_SRC)) $(SHARED_OBJ)
VIEW_OBJ := $(call obj,$(VIEW_SRC)) $(BUILD)/obj/web_files.o
CLI_OBJ := $(call obj,$(CLI_SRC)) $(BUILD)/obj/bench_files.o \
           $(isas:%=$(BUILD)/obj/src/cli/bench_vector.%.o)

CORE_SO := $(BUILD)/libclattn.so
CORE_A := $(BUILD)/libclattn.a
MODULE := $(if $(HAVE_OPENCL),$(if $(OCL_SRC),$(BUILD)/libclattn_opencl.so))
KIT_SO := $(if $(KIT_SRC),$(BUILD)/libclattn_kit.so)
KIT_A := $(if $(KIT_SRC),$(BUILD)/libclattn_kit.a)
VIEW_SO := $(if $(VIEW_SRC),$(BUILD)/libclattn_view.so)
VIEW_A := $(if $(VIEW_SRC),$(BUILD)/libclattn_view.a)
PROGRAM := $(if $(CLI_SRC),$(BUILD)/clattn)
PROGRAM_BINS := $(TEST_PROGRAMS:tests/programs/%.c=$(BUILD)/tests/%)
UNIT_SRC := $(call buildable,$(wildcard tests/unit/*.c))
UNIT := $(if $(UNIT_SRC),$(BUILD)/tests/unit)
EXAMPLE_BINS := $(EXAMPLES:%.c=$(BUILD)/%)
BENCH_BINS := $(BENCHES:%.c=$(BUILD)/%)
BENCH_SHIM := $(BUILD)/bench/libclattn_bench.so
SHIM_OBJ := $(call obj,$(call buildable,$(wildcard bench/shim*.c)))

# ---- targets ------------------------------------------------------------------
.DEFAULT_GOAL := all
.PHONY: all deps demo test bench bench-python bench-training models check-models check-tokenizers \
        check-browser \
        lint format install uninstall \
        clean help tests programs plain run-tests examples benches FORCE
.DELETE_ON_ERROR:
.SUFFIXES:

# Parallel unless the caller chose a number of jobs.
jobs = $(if $(findstring j,$(filter-out --%,$(MAKEFLAGS))),,-j$(shell nproc))
submake = +@$(MAKE) --no-print-directory $(jobs)

all: $(CORE_SO) $(CORE_A) $(MODULE) $(KIT_SO) $(KIT_A) $(VIEW_SO) $(VIEW_A) $(PROGRAM) ## libraries and program (default)
ifeq ($(HAVE_OPENCL),)
	@echo "note: no OpenCL headers or loader found: built without the OpenCL" \
	      "backend (make deps installs them)" >&2
endif
ifeq ($(HAVE_KIT),)
	@echo "note: no jansson, PCRE2 and utf8proc found: built without the kit" \
	      "and the program (make deps installs them)" >&2
else ifeq ($(HAVE_PICTURES),)
	@echo "note: no cairo and Pango found: built without PNG and SVG (make" \
	      "deps installs them)" >&2
endif

deps: ## install what is missing (apt; elsewhere names the packages)
	@scripts/deps.sh

demo: deps ## devices, attention seen, a GPT writes, dates are read
	$(submake) all
	$(BUILD)/clattn devices --brief
	$(BUILD)/clattn attend data/the-verdict.txt
	@echo; echo 'What the heads of a trained model look at:'; echo
	CLATTN_SHARE_DIR=data $(BUILD)/clattn view
	@echo
	CLATTN_SHARE_DIR=data $(BUILD)/clattn view --html $(BUILD)/attention.html
	@echo 'Open $(BUILD)/attention.html in a browser to walk through all of it.'
	@echo; echo 'A GPT that `clattn train` made (data/README.md) goes on from' \
	  '"Catherine was":'; echo
	$(BUILD)/clattn generate data/northanger.safetensors "Catherine was" \
	  --tokens 259 --temperature 0.6 --seed 2 --attention
	@echo; echo 'A translator that `clattn translate` made reads a date:'; echo
	$(BUILD)/clattn translate data/dates.safetensors "3rd of March 1998" \
	  --attention

test: deps ## build and run unit tests, shell tests and examples
	$(submake) all tests examples
	$(submake) run-tests

run-tests:
	@scripts/run_tests.sh $(BUILD) $(UNIT) $(PROGRAM_BINS) $(SHELL_TESTS) \
	  $(EXAMPLE_BINS)

bench: deps ## build and run the benchmarks (BENCHFLAGS: of clattn bench)
	$(submake) all benches
	$(BUILD)/clattn bench --json=$(BUILD)/bench.json $(BENCHFLAGS)
	@set -e; for b in $(BENCH_BINS); do echo "== $$b"; $$b; done

bench-python: deps ## beside PyTorch, ONNX Runtime, OpenVINO, oneDNN (downloads)
	$(submake) all benches
	@bench/python.sh $(BUILD)

bench-training: deps ## gradients and training steps, then beside PyTorch (downloads)
	$(submake) all benches
	$(BUILD)/clattn bench --backward --shapes=training --device=cpu \
	  --json=$(BUILD)/backward.json $(BENCHFLAGS)
	@RIVALS_FLAGS="--only backward --only train --rival pytorch $(RIVALS_FLAGS)" \
	  bench/python.sh $(BUILD) training

# MODELS: where they are kept; default ~/.cache/clattn/models.
models: ## fetch pre-trained models for checks and trials (175 MB)
	@scripts/fetch_models.sh $(MODELS)

check-tokenizers: deps ## beside tiktoken and Hugging Face's (needs CLATTN_DATA)
	$(submake) all
	@scripts/check_tokenizers.sh $(BUILD)

check-models: deps ## pre-trained models beside numpy (fetches them)
	$(submake) all
	@scripts/check_models.sh $(BUILD) $(MODELS)

check-browser: deps ## the page of clattn view in headless Chromium, if it is there
	$(submake) all
	@scripts/check_browser.sh $(BUILD)

tests: $(UNIT) programs
programs: $(PROGRAM_BINS)
plain: $(BUILD)/tests/plain ## the unit tests as a program without Criterion
examples: $(EXAMPLE_BINS)
benches: $(BENCH_BINS) $(BENCH_SHIM)

sources = $(wildcard include/*.h src/*.h src/*/*.[ch] src/*/*/*.[ch] tests/*/*.[ch] \
            tests/plain/*/*.h examples/*.[ch] bench/*.[ch] scripts/*.c cl/*.cl cl/*.h)
lint: ## format and layering
	@bad=; for f in $(sources); do \
	  $(CLANG_FORMAT) --dry-run -Werror $$f 2>/dev/null || bad="$$bad $$f"; \
	done; [ -z "$$bad" ] || { \
	  printf 'not in the house format (make format mends it):\n'; \
	  printf '  %s\n' $$bad; exit 1; }
	@scripts/check_layers.sh

format: ## rewrite the sources in the house format
	$(CLANG_FORMAT) -i $(sources)

clean: ## remove the build directory
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	  awk -F'|' '{ printf "  make %-13s %s\n", $$1, $$2 }'

# ---- objects ------------------------------------------------------------------
# Rewritten when compiler or flags change, so that objects never mix.
stamp = @mkdir -p $(@D); echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
$(BUILD)/flags: FORCE
	$(call stamp,$(CC) $(flags))
$(BUILD)/module_dir: FORCE
	$(call stamp,$(module_dir))
$(BUILD)/share_dir: FORCE
	$(call stamp,$(sharedir) $(SHIPPED_MODEL))

compile = @mkdir -p $(@D) && echo "  CC  $@" && \
          $(CC) $(flags) $(extra) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(compile)

$(BUILD)/obj/plain/%.o: %.c $(BUILD)/flags
	$(compile)

$(BUILD)/obj/src/kit/%.o: extra = $(KIT_CFLAGS)
$(BUILD)/obj/src/cli/%.o: extra = $(KIT_CFLAGS)
picture_flags := $(if $(HAVE_PICTURES),-DVIEW_PICTURES $(PICTURE_CFLAGS))
$(BUILD)/obj/src/view/%.o: extra = $(KIT_CFLAGS) $(picture_flags)
$(BUILD)/obj/tests/%.o: extra = -Itests -Itests/support $(picture_flags)
$(BUILD)/obj/plain/%.o: extra = -Itests/plain -Itests -Itests/support \
  $(picture_flags)
$(BUILD)/obj/bench/%.o: extra = -Itests -Itests/support
# What it probes is multiply-adds.
$(BUILD)/obj/bench/shim.o: extra = -ffp-contract=fast

# Where the installed module lies, for programs that link the static library.
$(BUILD)/obj/src/core/module.o: extra = -DCLT_MODULE_DIR='"$(module_dir)"'
$(BUILD)/obj/src/core/module.o: $(BUILD)/module_dir
# Where the installed model lies.
$(BUILD)/obj/src/cli/view_shipped.o: extra = $(KIT_CFLAGS) \
  -DCLI_SHARE_DIR='"$(sharedir)"' \
  -DCLI_SHIPPED_MODEL='"$(notdir $(SHIPPED_MODEL))"'
$(BUILD)/obj/src/cli/view_shipped.o: $(BUILD)/share_dir

# One source, one object an instruction set; select.c chooses at run time.
isa_base := -DLANES=4 $(if $(X86_32),-msse2 -mfpmath=sse)
isa_avx2 := -DLANES=8 -mavx2 -mfma -mf16c
isa_avx512 := -DLANES=16 -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma \
              -mprefer-vector-width=512
vector_flags = $(isa_$*) -O3 -ffp-contract=fast -fno-math-errno
$(BUILD)/obj/src/cpu/kernels.%.o: extra = -DCLT_ISA=$* $(vector_flags)
$(BUILD)/obj/src/cpu/kernels.%.o: src/cpu/kernels.c $(BUILD)/flags
	$(compile)
$(BUILD)/obj/src/cli/bench_vector.%.o: extra = -DBENCH_ISA=$* $(vector_flags)
$(BUILD)/obj/src/cli/bench_vector.%.o: src/cli/bench_vector.c $(BUILD)/flags
	$(compile)

# Kernel sources and the benchmark's shapes as byte arrays.
$(BUILD)/embed: scripts/embed.c
	@mkdir -p $(@D)
	$(HOST_CC) -std=c11 -O1 -Wall -Wextra -o $@ $<
$(BUILD)/gen/cl_sources.c: $(BUILD)/embed $(CL_SRC)
	@mkdir -p $(@D) && echo "  GEN $@"
	@$< $@ source.h clt_cl_source clt_cl_sources $(CL_SRC)
$(BUILD)/obj/cl_sources.o: extra = -Isrc/ocl
$(BUILD)/obj/cl_sources.o: $(BUILD)/gen/cl_sources.c $(BUILD)/flags
	$(compile)
$(BUILD)/gen/bench_files.c: $(BUILD)/embed $(SHAPES)
	@mkdir -p $(@D) && echo "  GEN $@"
	@$< $@ bench_shapes.h bench_file bench_files $(SHAPES)
$(BUILD)/obj/bench_files.o: extra = -Isrc/cli
$(BUILD)/obj/bench_files.o: $(BUILD)/gen/bench_files.c $(BUILD)/flags
	$(compile)
# The page of `clattn view`.
$(BUILD)/gen/web_files.c: $(BUILD)/embed $(WEB_SRC)
	@mkdir -p $(@D) && echo "  GEN $@"
	@$< $@ web.h view_web_file view_web_files $(WEB_SRC)
$(BUILD)/obj/web_files.o: extra = -Isrc/view
$(BUILD)/obj/web_files.o: $(BUILD)/gen/web_files.c $(BUILD)/flags
	$(compile)

# ---- libraries and programs ------------------------------------------------------
link = @mkdir -p $(@D) && echo "  LD  $@" && $(CC) $(ldflags) -o $@
shared = $(link) -shared $(if $(SANITIZE),,-Wl,-z,defs)

# Archives are made anew: a deleted source must not linger in them.
archive = @mkdir -p $(@D) && echo "  AR  $@" && rm -f $@ && $(AR) rcs $@

$(CORE_A): $(CORE_OBJ)
	$(archive) $(CORE_OBJ)
$(BUILD)/libclattn_kit.a: $(KIT_OBJ)
	$(archive) $(KIT_OBJ)

$(BUILD)/libclattn_view.a: $(VIEW_OBJ)
	$(archive) $(VIEW_OBJ)

$(BUILD)/libclattn.so.$(ABI): $(CORE_OBJ)
	$(shared) -Wl,-soname,$(@F) $(CORE_OBJ) $(CORE_LIBS)
$(BUILD)/libclattn_kit.so.$(ABI): $(KIT_OBJ) $(CORE_SO)
	$(shared) -Wl,-soname,$(@F) -Wl,-rpath,'$$ORIGIN' $(KIT_OBJ) \
	  -L$(BUILD) -lclattn $(KIT_LIBS) -lm
$(BUILD)/libclattn_view.so.$(ABI): $(VIEW_OBJ) $(SHARED_OBJ) $(KIT_SO) $(CORE_SO)
	$(shared) -Wl,-soname,$(@F) -Wl,-rpath,'$$ORIGIN' $(VIEW_OBJ) $(SHARED_OBJ) \
	  -L$(BUILD) -lclattn_kit -lclattn $(if $(HAVE_PICTURES),$(PICTURE_LIBS)) \
	  $(KIT_LIBS) -lm
$(BUILD)/%.so: $(BUILD)/%.so.$(ABI)
	@ln -sf $(<F) $@

# Loaded at run time; needs no symbol of the core.
$(BUILD)/libclattn_opencl.so: $(OCL_OBJ)
	$(shared) $(OCL_OBJ) -lOpenCL -lm -ldl

$(BUILD)/clattn: $(CLI_OBJ) $(VIEW_SO) $(KIT_SO) $(CORE_SO)
	$(link) $(CLI_OBJ) -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib' \
	  -L$(BUILD) $(if $(VIEW_SO),-lclattn_view) $(if $(KIT_SO),-lclattn_kit) \
	  -lclattn $(KIT_LIBS) $(CORE_LIBS)

cl_lib := $(if $(HAVE_OPENCL),-lOpenCL)
as_needed := -Wl,--as-needed

# Static, so that tests and benchmarks reach what the libraries hide.
support_obj := $(call obj,$(call buildable,$(wildcard tests/support/*.c)))
$(BUILD)/tests/unit: libs := -lcriterion
$(BUILD)/tests/unit: $(call obj,$(UNIT_SRC))
$(BUILD)/tests/plain: $(patsubst %.c,$(BUILD)/obj/plain/%.o, \
                        tests/plain/plain.c $(UNIT_SRC))
$(PROGRAM_BINS): $(BUILD)/tests/%: $(BUILD)/obj/tests/programs/%.o
$(BENCH_BINS): $(BUILD)/%: $(BUILD)/obj/%.o
$(BUILD)/tests/unit $(BUILD)/tests/plain $(PROGRAM_BINS) \
  $(BENCH_BINS): $(support_obj) $(SHARED_OBJ) $(VIEW_A) $(KIT_A) $(CORE_A)
	$(link) $(as_needed) $(filter %.o,$^) $(VIEW_A) $(KIT_A) $(CORE_A) $(libs) \
	  $(if $(HAVE_PICTURES),$(PICTURE_LIBS)) $(if $(KIT_A),$(KIT_LIBS)) \
	  $(cl_lib) $(CORE_LIBS)

# What bench/rivals.py loads.
$(BENCH_SHIM): $(SHIM_OBJ) $(KIT_SO) $(CORE_SO)
	$(shared) $(SHIM_OBJ) -Wl,-rpath,'$$ORIGIN/..' -L$(BUILD) \
	  $(if $(KIT_SO),-lclattn_kit) -lclattn -pthread

$(EXAMPLE_BINS): $(BUILD)/%: $(BUILD)/obj/%.o $(VIEW_SO) $(KIT_SO) $(CORE_SO)
	$(link) $(as_needed) $< -Wl,-rpath,'$$ORIGIN/..' -L$(BUILD) \
	  $(if $(VIEW_SO),-lclattn_view) $(if $(KIT_SO),-lclattn_kit) -lclattn \
	  $(cl_lib) -lm -pthread

.SECONDARY:
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- install --------------------------------------------------------------------
pc_files := clattn.pc $(if $(KIT_SRC),clattn-kit.pc) \
              $(if $(VIEW_SRC),clattn-view.pc)

install: all ## PREFIX=/usr/local, DESTDIR=
	install -d $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(includedir) \
	  $(if $(MODULE),$(DESTDIR)$(module_dir))
	install -m 644 $(HEADERS) $(DESTDIR)$(includedir)
	install -m 644 $(CORE_A) $(KIT_A) $(VIEW_A) $(DESTDIR)$(libdir)
	for so in $(CORE_SO) $(KIT_SO) $(VIEW_SO); do name=$${so##*/}; \
	  install -m 755 $$so.$(ABI) $(DESTDIR)$(libdir) && \
	  ln -sf $$name.$(ABI) $(DESTDIR)$(libdir)/$$name || exit 1; done
	$(if $(MODULE),install -m 755 $(MODULE) $(DESTDIR)$(module_dir))
	for pc in $(pc_files); do sed -e 's|@prefix@|$(PREFIX)|' \
	  -e 's|@libdir@|$(libdir)|' -e 's|@includedir@|$(includedir)|' \
	  -e 's|@version@|$(VERSION)|' -e 's|@pictures@|$(if \
	  $(HAVE_PICTURES),$(strip $(PICTURE_LIBS)))|' $$pc.in > \
	  $(DESTDIR)$(libdir)/pkgconfig/$$pc || exit 1; done
	$(if $(PROGRAM),install -d $(DESTDIR)$(bindir))
	$(if $(PROGRAM),install -m 755 $(PROGRAM) $(DESTDIR)$(bindir))
	$(if $(PROGRAM),install -d $(DESTDIR)$(sharedir))
	$(if $(PROGRAM),install -m 644 $(SHARED_MODELS) $(DESTDIR)$(sharedir))
	$(if $(wildcard docs/clattn.1),install -d $(DESTDIR)$(mandir)/man1)
	$(if $(wildcard docs/clattn.1),install -m 644 docs/clattn.1 \
	  $(DESTDIR)$(mandir)/man1)

uninstall: ## takes the same PREFIX and DESTDIR
	rm -f $(HEADERS:include/%=$(DESTDIR)$(includedir)/%) \
	  $(DESTDIR)$(libdir)/libclattn.* $(DESTDIR)$(libdir)/libclattn_kit.* \
	  $(DESTDIR)$(libdir)/libclattn_view.* \
	  $(DESTDIR)$(libdir)/pkgconfig/clattn.pc \
	  $(DESTDIR)$(libdir)/pkgconfig/clattn-kit.pc \
	  $(DESTDIR)$(libdir)/pkgconfig/clattn-view.pc \
	  $(DESTDIR)$(bindir)/clattn $(DESTDIR)$(mandir)/man1/clattn.1 \
	  $(DESTDIR)$(module_dir)/libclattn_opencl.so \
	  $(SHARED_MODELS:data/%=$(DESTDIR)$(sharedir)/%)
	-rmdir $(DESTDIR)$(module_dir) $(DESTDIR)$(sharedir) 2>/dev/null
