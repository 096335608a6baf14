# Names the Pythons, servers and versions of uv below /opt/slipway that no app, release or process of the host refers to.
links=$(find /srv/*/releases/*/.venv/bin /srv/*/releases/*/*/.venv/bin -maxdepth 1 -type l -printf '%l\n' 2>/dev/null)

# What is looked for comes by a pipe: among the arguments of grep it would be found in /proc.
mentioned() {
  printf '%s\n' "$place/" "${place%/*}/.uv-${place##*/}/" | grep --quiet --no-messages --fixed-strings --file=- "$@"
}

# A slot that was started before its unit was written may run the server of before, whatever its processes call themselves.
is_behind() {
  for slot in $(systemctl list-units --plain --no-legend --state=active,activating,deactivating \
                  '*@blue.service' '*@green.service' 2>/dev/null | cut --delimiter=' ' --fields=1); do
    unit=/etc/systemd/system/${slot%%@*}@.service
    test -e "$unit" || continue
    started=$(systemctl show "$slot" --property=ActiveEnterTimestamp --timestamp=unix --value)
    started=${started#@}
    test "${started:-0}" -gt "$(stat --format=%Y "$unit")" || return 0
  done
  return 1
}

for place in /opt/slipway/python/* /opt/slipway/server-* /opt/slipway/uv-*; do
  test -d "$place" || continue
  case $place in *.new) continue ;; esac
  mentioned /etc/slipway/*.toml /etc/systemd/system/*.service \
    /srv/*/releases/*/.venv/pyvenv.cfg /srv/*/releases/*/*/.venv/pyvenv.cfg && continue
  case "$links" in *"$place/"* | *"${place%/*}/.uv-${place##*/}/"*) continue ;; esac
  mentioned /proc/[0-9]*/maps /proc/[0-9]*/cmdline && continue
  case $place in /opt/slipway/server-*) is_behind && continue ;; esac
  echo "unused $place"
done
