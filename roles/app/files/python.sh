#!/bin/sh
# Provide a Python of its own: python.sh UV VERSION DIRECTORY MIRROR SHA256. It is there as a whole, or not at all.
set -eu
uv=$1 version=$2 directory=$3 mirror=$4 sha256=$5
umask 022
place=$(dirname "$directory")
mkdir --parents "$place"
work=$(mktemp --directory "$place/.new-XXXXXX")
trap 'rm --recursive --force "$work"' EXIT
own=/usr/bin/python$version
export SSL_CERT_FILE="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"

if test -n "$sha256"; then
  /usr/bin/python3 -c 'import shutil, sys, urllib.request as request
with request.urlopen(sys.argv[1], timeout=60) as answer, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(answer, file)' "$mirror" "$work/archive"
  found=$(sha256sum "$work/archive" | cut --delimiter=' ' --fields=1)
  if test "$found" != "$sha256"; then
    echo "The archive at python_mirror has the SHA-256 digest $found, and not $sha256 (python_sha256)." >&2
    exit 1
  fi
  mkdir "$work/unpacked"
  tar --extract --no-same-owner --no-same-permissions --file="$work/archive" --directory="$work/unpacked"
  made=$(find "$work/unpacked" -maxdepth 3 -path '*/bin/python3' -printf '%h\n' | head --lines=1)
  if test -z "$made"; then
    echo "The archive at python_mirror has no bin/python3: it has to be an install_only one of python-build-standalone." >&2
    exit 1
  fi
  made=$(dirname "$made")
  link=
elif test -z "$mirror" && test -x "$own"; then
  # The host's own is of this version: nothing is to be downloaded.
  made="$work/made"
  mkdir --parents "$made/bin"
  ln --symbolic "$own" "$made/bin/python3"
  link=
else
  # uv writes the place into some files, so what it makes stays there, and its place gets a name by a link.
  kept="$place/.uv-$(basename "$directory")"
  rm --recursive --force "$kept"
  set --
  test -z "$mirror" || set -- --mirror "$mirror"
  if ! "$uv" --no-progress --no-config --cache-dir "$work/cache" python install --no-bin --install-dir "$kept" \
    "$@" "$version" 2> "$work/said"; then
    cat "$work/said" >&2
    echo "Python $version could not be downloaded. A host that does not reach GitHub needs python_mirror." \
      "This host's own is $(/usr/bin/python3 --version), which an app without the setting python gets." >&2
    exit 1
  fi
  made=$(find "$kept" -mindepth 1 -maxdepth 1 -type d -name 'cpython-*' | head --lines=1)
  link=yes
fi

is=$("$made/bin/python3" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
case "$is." in
  "$version."*) ;;
  *)
    echo "The archive has Python $is, and not $version." >&2
    exit 1
    ;;
esac
rm --recursive --force "$directory"
if test -n "$link"; then
  ln --symbolic "$made" "$work/link"
  mv --no-target-directory "$work/link" "$directory"
else
  mv --no-target-directory "$made" "$directory"
fi
