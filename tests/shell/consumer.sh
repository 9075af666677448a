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

# A program that looks at attention, linked both ways. What draws the pictures is
# nobody's business but the library's.
if [ -f usr/lib/libclattn_view.a ]; then
  case $(pkg-config --cflags clattn-view) in
    *pango* | *cairo* | *glib*) echo "flags of Pango leak"; exit 1 ;;
  esac
  ${CC:-cc} -std=c11 "$OLDPWD/examples/look.c" \
    -o look $(pkg-config --cflags --libs clattn-view) -lm
  # shellcheck disable=SC2046 # words on purpose
  ${CC:-cc} -std=c11 "$OLDPWD/examples/look.c" \
    -o look_static $(pkg-config --cflags clattn-view) \
    usr/lib/libclattn_view.a usr/lib/libclattn_kit.a usr/lib/libclattn.a \
    $(pkg-config --libs --static clattn-view | tr ' ' '\n' |
      grep -v -e '^-lclattn' -e '^-L' | tr '\n' ' ')
  ./look recording page.html
  LD_LIBRARY_PATH= ./look_static >static.txt
  ./look | cmp - static.txt
  grep -q 'layer 1, head 2' static.txt
  usr/bin/clattn view recording | grep -q '^my model: 2 x 3 heads, 6 tokens'
  # What is shipped is where the installed program and the manual find it.
  for model in northanger dates; do
    usr/bin/clattn view --model usr/share/clattn/$model.safetensors \
      --text 1998 --kind table >/dev/null
  done
  usr/bin/clattn view | grep -q '^northanger: '
fi

make -C "$OLDPWD" --no-print-directory BUILD="$build" PREFIX="$work/usr" \
  uninstall >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
left=$(find "$work/usr" -type f)
[ -z "$left" ] || { echo "uninstall left: $left"; exit 1; }
