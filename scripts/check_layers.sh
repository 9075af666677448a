#!/bin/sh
# Checks the layering by reading the includes: each rule names files, a pattern
# of includes that they must not have, and why.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0

# forbid WHY PATTERN PATH... - no file in PATH includes what PATTERN matches.
forbid() {
  why=$1 pattern=$2
  shift 2
  for path in "$@"; do
    [ -e "$path" ] || continue
    found=$(grep -rnE --include='*.[ch]' --include='*.cl' \
      "^[[:space:]]*#[[:space:]]*include[[:space:]]*[\"<]($pattern)" "$path")
    [ -n "$found" ] || continue
    printf '%s\n  -> %s\n' "$found" "$why" >&2
    status=1
  done
}

opencl='CL/|OpenCL/|clblast|clattn_cl\.h'
inside='(.*/)?(core|attention|nn|cpu|ocl)/|(.*/)?backend\.h|(\.\./)*cl/'

forbid 'only src/ocl and clattn_cl.h know OpenCL' "$opencl" \
  src/core src/attention src/nn src/cpu src/kit src/view src/cli src/*.h cl \
  include/clattn.h include/clattn_nn.h include/clattn_[!c]*.h
forbid 'a backend uses backend.h, cl/ and the public header only' \
  '(.*/)?(core|attention|nn|kit|cli)/|clattn_(nn|kit|text|model|gpt|seq2seq|attention|view)' src/cpu src/ocl src/backend.h
forbid 'the backends never include each other' '(.*/)?ocl/' src/cpu
forbid 'the backends never include each other' '(.*/)?cpu/' src/ocl
forbid 'the core knows neither what is computed nor who asks' \
  '(.*/)?(attention|nn|kit|cli|cpu|ocl)/|clattn_(nn|kit|text|model|gpt|seq2seq|attention|view)' src/core
forbid 'attention stands below kit and cli and beside no backend' \
  '(.*/)?(nn|kit|cli|cpu|ocl)/|clattn_(nn|kit|text|model|gpt|seq2seq|attention|view)' src/attention
forbid 'nn stands beside attention, of which it knows plan.h alone' \
  '(.*/)?(kit|cli|cpu|ocl)/|clattn_(kit|text|model|gpt|seq2seq|attention|view)|(.*/)?attention/([^p]|p[^l])' src/nn
forbid 'kit, view and cli are users of the public API' "$inside" \
  src/kit src/view src/cli
forbid 'view is a user of the kit' '(.*/)?(kit|cli)/' src/view
forbid 'what is shared knows the public API alone' \
  '(.*/)?(core|attention|nn|kit|view|cli|cpu|ocl)/|clattn_' src/shared
forbid 'the kit does not know how it is looked at' 'clattn_view|(.*/)?view/' \
  src/kit
forbid 'the kit does not know the program' '(.*/)?cli/' src/kit
forbid 'the core shares only args.h with the kernels' \
  '(\.\./)*cl/([^a]|a[^r])' src/core
forbid 'the OpenCL host code shares only args.h with the kernels' \
  '(\.\./)*cl/([^a]|a[^r])' src/ocl
forbid 'kernels include kernels only' '(.*/)?src/|clattn' cl
forbid 'the oracle shares no code with what it checks' \
  '(.*/)?cl/' tests/support
forbid 'examples use the public API' '(.*/)?(src|cl)/' examples

[ $status -ne 0 ] || echo 'layers: ok'
exit $status
