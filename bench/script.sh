#!/usr/bin/env bash
# The baseline of `make bench`: what one would write who needs no more than a deploy, and watches it.
#
#     ssh host sudo bash -s deploy v1.2.0 < bench/script.sh
#     ssh host sudo bash -s rollback      < bench/script.sh
#
# It does a release's steps for an app that site.yml has prepared, on the same users, directories and units as Slipway,
# with nothing that makes Slipway safe: no lock, no journal, no undo, no question asked twice.
set -euo pipefail
cd /

app=baseline
root=/srv/$app
origin=/srv/$app-origin.git
uv=$(echo /opt/slipway/uv-*/uv)

live=$(basename "$(readlink "$root/live" || echo green)")
idle=$([ "$live" = blue ] && echo green || echo blue)

as() { runuser --user "$1" -- "${@:2}"; }

build() { # TAG: the source, and a virtualenv as the lock file has it
    as "${app}_build" git -C "$root/repo.git" fetch --quiet "$origin" "refs/tags/$1:refs/tags/$1"
    as "${app}_build" mkdir "$root/releases/$1"
    as "${app}_build" git -C "$root/repo.git" archive "$1" | as "${app}_build" tar --extract --directory="$root/releases/$1"
    as "${app}_build" env --chdir="$root/releases/$1" HOME="/var/cache/slipway/$app" UV_CACHE_DIR="/var/cache/slipway/$app" \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_PYTHON=/usr/bin/python3 \
        "$uv" sync --quiet --frozen --no-default-groups --compile-bytecode
}

migrate() { # TAG
    # shellcheck disable=SC2046  # one variable a line, without spaces in it
    as "${app}_migrate" env --chdir="$root/releases/$1" $(cat "/etc/$app/env" "/etc/$app/migrate.env" | grep = | tr --delete '"') \
        PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m alembic upgrade head
}

prepare() { # TAG: the idle slot
    ln --symbolic --force --no-dereference "$root/releases/$1" "$root/slots/$idle/release"
    {
        grep = "/etc/$app/env"
        echo "RELEASE_TAG=$1"
        echo "RELEASE_SHA=$(as "${app}_build" git -C "$root/repo.git" rev-parse "$1^{commit}")"
    } > "$root/slots/$idle/env"
}

cut_over() {
    systemctl start "$app@$idle.service"
    until curl --silent --fail --output /dev/null --unix-socket "$root/slots/$idle/http.sock" http://localhost/health/ready; do
        sleep 0.05
    done
    ln --symbolic "slots/$idle" "$root/live.new"
    mv --no-target-directory "$root/live.new" "$root/live"
    systemctl stop "$app@$live.service" "$app@$live.socket"
}

case $1 in
    deploy) build "$2"; migrate "$2"; prepare "$2"; cut_over ;;
    rollback) cut_over ;; # the idle slot still has the release before
esac
