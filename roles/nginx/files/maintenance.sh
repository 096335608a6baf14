#!/bin/sh
# Closes an app for its clients, or opens it again: maintenance.sh APP on|off SECONDS UPSTREAM DIRECTORY SOCKETS
#
# Nginx looks for the file DIRECTORY/APP.on or APP.hold at each request, so one rename is all that it takes. With SECONDS
# above 0 requests wait, for that long at most: Nginx connects them to the socket SOCKETS/APP.sock, where nobody accepts
# them until the app is open again. Then systemd's proxy passes them on to UPSTREAM.
set -eu
app=$1 state=$2 seconds=$3 upstream=$4 directory=$5 sockets=$6
on=$directory/$app.on held=$directory/$app.hold off=$directory/$app.off
unit=slipway-hold-$app script=$sockets/$app.sh
umask 022

put() { # FILE: by a rename
    : > "$directory/.$app.new"
    mv -f "$directory/.$app.new" "$1"
}

before=open
[ ! -e "$held" ] || before=held
[ ! -e "$on" ] || before=closed

# A client that asked just before the rename may still be on its way to the socket.
end_hold_that_nobody_waits_for() {
    sleep 0.3
    systemctl --quiet is-active "$unit.service" || systemctl stop "$unit.socket" 2>/dev/null || true
}

hold() {
    systemctl stop "$unit.socket" "$unit.service" 2>/dev/null || true
    systemctl reset-failed "$unit.socket" "$unit.service" 2>/dev/null || true
    mkdir -p "$sockets"
    read -r now _ < /proc/uptime
    cat > "$script" <<END
# Started by the first request that waits.
while [ -e '$held' ]; do
    read -r now _ < /proc/uptime
    [ "\${now%.*}" -lt $((${now%.*} + seconds)) ] || mv -f '$held' '$on' || true
    sleep 0.05
done
target='$upstream'
[ ! -e '$on' ] || target=/nonexistent # nobody is kept waiting: Nginx answers 503
exec /usr/lib/systemd/systemd-socket-proxyd --connections-max=16384 --exit-idle-time=5s "\$target"
END
    systemd-run --quiet --unit="$unit" --description="Requests for $app that wait while it is held" \
        --socket-property=ListenStream="$sockets/$app.sock" --socket-property=Backlog=65535 \
        --socket-property=SocketMode=0660 --socket-property=SocketGroup=www-data --socket-property=RemoveOnStop=yes \
        --property=LimitNOFILE=131072 --property=ExecStopPost="-/usr/bin/systemctl stop --no-block $unit.socket" \
        --property=ProtectSystem=strict --property=ReadWritePaths="$directory" --property=ProtectHome=yes \
        --property=PrivateNetwork=yes --property=RestrictAddressFamilies=AF_UNIX --property=NoNewPrivileges=yes \
        /bin/sh "$script"
    put "$held"
    rm -f "$on"
}

case $state:$before in
    on:held | on:closed | on:open)
        if [ "$seconds" -gt 0 ]; then
            hold
        else
            put "$on"
            [ "$before" != held ] || { rm -f "$held"; end_hold_that_nobody_waits_for; }
        fi
        ;;
    off:held) mv -f "$held" "$off" && end_hold_that_nobody_waits_for ;;
    off:closed) mv -f "$on" "$off" ;;
    off:open) ;;
esac
echo "$app was $before"
