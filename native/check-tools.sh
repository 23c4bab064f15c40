#!/bin/sh
# Names what a fresh machine lacks for `make`, with the line that installs it. PYTHON and CXX are from the Makefile.
lacks() {
  echo "make: $1; on Debian or Ubuntu: sudo apt-get install -y $2" >&2
  exit 1
}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  lacks "'$PYTHON' is no Python 3.11 or newer (PYTHON=... names another)" python3
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || lacks "'$PYTHON' cannot make virtual environments" python3-venv
"$PYTHON" -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
  lacks "'$PYTHON' has no header files" python3-dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <concepts>\nint main() {}\n' >"$work/a.cc"
"$CXX" -std=c++20 -o "$work/a" "$work/a.cc" 2>/dev/null || lacks "'$CXX' does not compile C++20" g++
