#!/usr/bin/env bash
# cibuildwheel 4.3.5: a CIBW_BUILD that is set to nothing overrides pyproject.toml, and means every Python it knows.
#
# So a workflow that sets it for some of its jobs alone (in GitHub Actions: `${{ condition && 'cp311-*' || '' }}`) builds
# in the others not what [tool.cibuildwheel] says: also the Pythons without the GIL that are newer than what the project
# has tried. An empty CIBW_SKIP overrides in the same way: what the file skips is built. Its changelog says that an empty
# CIBW_BUILD is the same as one that is not set, and that most variables ignore an empty value; CIBW_ARCHS and those of
# images do (cibuildwheel/options.py: an empty `build` is read as "*", once it has replaced the file's).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install cibuildwheel==4.3.5
cat >pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "example"
version = "1"

[tool.cibuildwheel]
build = "cp311-*"
skip = "*musllinux*"
TOML

built() { env "$@" CIBW_ARCHS=x86_64 venv/bin/cibuildwheel --platform linux --print-build-identifiers; }
as_said=$(built A=b)
empty_build=$(built CIBW_BUILD=)
empty_skip=$(built CIBW_SKIP=)
echo "as pyproject.toml says: $(echo $as_said)"
echo "with an empty CIBW_BUILD: $(echo $empty_build)"
echo "with an empty CIBW_SKIP: $(echo $empty_skip)"
[[ $as_said == cp311-manylinux_x86_64 && $empty_build == *cp315t-manylinux_x86_64* \
  && $empty_skip == *cp311-musllinux_x86_64* ]] || { echo "the behaviour has changed" >&2; exit 1; }
