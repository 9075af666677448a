#!/bin/sh
# consumer.sh - installs into a temporary prefix; a C and a C++ program outside
# the repository build with pkg-config and run.
set -eu
build=${BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make --no-print-directory BUILD="$build" PREFIX="$work/usr" install \
  >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

cat >"$work/program.c" <<'END'
#include <clattn.h>
#include <stdio.h>

int main(void) {
  const float q[2] = {1, 0}, kv[4] = {1, 0, 0, 1};
  float out[2] = {0, 0};
  clattn_context *context;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = 2;
  if (clattn_context_create(NULL, &context) != CLATTN_OK ||
      clattn_attention_f32(context, &desc, 1, 1, 2, q, kv, kv, out) !=
          CLATTN_OK) {
    fprintf(stderr, "%s\n", clattn_error_message());
    return 1;
  }
  printf("%s: %d devices, %.3f %.3f\n", clattn_version(),
         clattn_device_count(context), out[0], out[1]);
  clattn_context_destroy(context);
  return 0;
}
END
cp "$work/program.c" "$work/program.cpp"

export PKG_CONFIG_PATH="$work/usr/lib/pkgconfig"
export LD_LIBRARY_PATH="$work/usr/lib"
unset CLATTN_OPENCL_MODULE
flags=$(pkg-config --cflags --libs clattn)
[ "$(pkg-config --modversion clattn)" = "$("$work/usr/bin/clattn" --version |
  grep -o '[0-9.]*$')" ] || { echo "versions differ"; exit 1; }
cd "$work"
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror program.c -o in_c $flags
./in_c | tee c.txt
grep -q '0.670 0.330' c.txt
if command -v "${CXX:-c++}" >/dev/null; then
  ${CXX:-c++} -std=c++11 -Wall -Wextra -Wpedantic -Werror program.cpp \
    -o in_cpp $flags
  ./in_cpp
else
  echo "no C++ compiler: the C++ program was not built"
fi

# The same where there is no OpenCL at all, and the installed one finds its
# module by itself where there is.
CLATTN_OPENCL_MODULE= ./in_c | grep -q ': 1 devices'
if [ -f usr/lib/clattn/libclattn_opencl.so ]; then
  usr/bin/clattn devices | grep -q native
fi

# Linked statically.
${CC:-cc} -std=c11 program.c -o static $(pkg-config --cflags clattn) \
  usr/lib/libclattn.a $(pkg-config --libs --static clattn |
    tr ' ' '\n' | grep -v -e '^-lclattn$' -e '^-L' | tr '\n' ' ')
LD_LIBRARY_PATH= ./static

make -C "$OLDPWD" --no-print-directory BUILD="$build" PREFIX="$work/usr" \
  uninstall >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
left=$(find "$work/usr" -type f)
[ -z "$left" ] || { echo "uninstall left: $left"; exit 1; }
