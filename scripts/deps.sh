#!/bin/sh
# Installs what clattn needs to build, test and run the demo.
#   scripts/deps.sh        compiler, libraries, an OpenCL device for the CPU
#   scripts/deps.sh --ci   and what .ci/run checks with: clang, oclgrind, ...
# Quick and silent when everything is there.
set -eu

packages='build-essential pkg-config libjansson-dev libpcre2-dev
  libutf8proc-dev libpango1.0-dev fonts-dejavu-core libcriterion-dev
  opencl-headers ocl-icd-opencl-dev
  pocl-opencl-icd libclblast1 libopenblas0'
[ "${1:-}" != --ci ] || packages="$packages
  clang clang-format libclang-rt-dev oclgrind python3-numpy python3-pip
  chromium chromium-driver python3-selenium
  gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

if ! command -v apt-get >/dev/null; then
  # Not Debian: check for what a build cannot do without, and name the rest.
  missing=
  command -v "${CC:-cc}" >/dev/null || missing="$missing C-compiler"
  command -v pkg-config >/dev/null || missing="$missing pkg-config"
  for module in jansson libpcre2-8 libutf8proc criterion; do
    pkg-config --exists "$module" 2>/dev/null || missing="$missing $module"
  done
  [ -n "$missing" ] || exit 0
  echo "deps: missing:$missing" >&2
  echo "deps: please install what Debian calls:" $packages >&2
  exit 1
fi

missing=
for package in $packages; do
  # Three words "ok installed": dpkg knows packages that were removed, too.
  case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
    *' installed') ;;
    *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
  sudo=sudo
  if ! command -v sudo >/dev/null; then
    echo "deps: neither root nor sudo; please install:$missing" >&2
    exit 1
  fi
fi

echo "deps: installing with ${sudo:+sudo }apt-get:$missing"
install() {
  $sudo env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
# The lists may be absent or stale: fetch them if the first try fails.
install 2>/dev/null || { $sudo apt-get update -qq && install; }
echo "deps: done"
