# What stands on a host before anything is changed, one fact a line: a word, a space, the value.
# Before it stand: ports='80 443 5432' timezone='Etc/UTC'. It changes nothing, and takes a tenth of a second; where apt's
# list is not of today, also the time until the mirrors answer.
say() { printf '%s %s\n' "$1" "$2"; }

say uid "$(id -u)"
say time "$(date +%s)"
sed -n -E 's/^(ID|ID_LIKE|PRETTY_NAME|VERSION_CODENAME)=["'\'']?([^"'\'']*)["'\'']?$/\1 \2/p' /etc/os-release
say init "$(cat /proc/1/comm)"
if test -d /run/systemd/system; then say systemd "$(systemctl is-system-running 2>/dev/null)"; fi
if test -e /usr/bin/python3; then
  say python "$(/usr/bin/python3 -ISc 'import sys, json, socket, zipfile; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 |
    tail -n 1)"
fi
test -d /etc/slipway && say provisioned yes

# Who listens: the sockets of the kernel, and whose open files they are.
{
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { sub(/.*:/, "", $2); print "listens", $2, $10 }'
  find /proc/[0-9]*/fd -lname 'socket:*' -printf 'open %p %l\n' 2>/dev/null
} | awk -v ports="$(printf ' %04X' $ports)" '
  $1 == "listens" && index(ports, $2) { port["socket:[" $3 "]"] = $2; print $2 }
  $1 == "open" && $3 in port { split($2, path, "/"); print port[$3], path[3] }
' | sort -u | while read -r hex pid; do
  unit=$(test -n "$pid" && sed -n -E 's#.*/([^/]+\.(service|socket|scope))(/.*)?$#\1#p' "/proc/$pid/cgroup" | tail -n 1)
  say listener "$((0x$hex)) ${pid:--} $(test -n "$pid" && cat "/proc/$pid/comm") $unit"
done
for unit in apache2 caddy haproxy lighttpd traefik; do
  test -e /etc/systemd/system/multi-user.target.wants/$unit.service && say enabled $unit.service
done

# Nginx, where its configuration is not ours: what it serves beyond the pages that Debian gives to it.
if test -e /etc/nginx/nginx.conf && ! grep -q 'log_format slipway ' /etc/nginx/nginx.conf; then
  find /etc/nginx/sites-enabled /etc/nginx/conf.d -mindepth 1 ! -path /etc/nginx/sites-enabled/default \
    -printf 'site %p\n' 2>/dev/null
  dpkg-query --show --showformat='${Conffiles}\n' 'nginx*' 2>/dev/null |
    grep -E ' (/etc/nginx/nginx.conf|/etc/nginx/sites-available/default) ' | while read -r path digest rest; do
      test -e "$path" && test "$(md5sum < "$path" | cut -d ' ' -f 1)" != "$digest" && say site "$path"
    done
fi

# The clusters as pg_lsclusters lists them, with how they start; and what ours is told by, and others hold.
if command -v pg_lsclusters >/dev/null; then
  pg_lsclusters --no-header 2>/dev/null | while read -r version name port status owner data log; do
    start=$(sed -n '/^[a-z]/{p;q}' "/etc/postgresql/$version/$name/start.conf" 2>/dev/null)
    say cluster "$version $name $port $status $owner $data $log ${start:-auto}"
    if test -e "/etc/postgresql/$version/$name/conf.d/slipway.conf"; then say ours "$version $name"; fi
    find "$data/base" -mindepth 1 -maxdepth 1 -name '[1-9][0-9][0-9][0-9][0-9]*' -printf "database $version $name %f\n" \
      2>/dev/null
  done
fi

sed -n -E 's/^(MemTotal|MemAvailable|SwapTotal): +([0-9]+) kB/\1 \2/p' /proc/meminfo
for directory in / /usr /opt /srv /tmp /var; do test -d $directory && echo $directory; done |
  xargs df --output=file,target,avail,iavail -k 2>/dev/null | sed '1d; s/^/disk /'
awk '$2 ~ "^(/|/usr|/usr/local|/opt|/srv|/var|/var/lib|/var/lib/dpkg)$" && $4 ~ /(^|,)(ro|noexec)(,|$)/ {
  print "mount", $2, $4 ~ /(^|,)ro(,|$)/ ? "ro" : "noexec"
}' /proc/self/mounts

# Packages: what is under way, what is left over, and where new ones come from.
for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock; do
  inode=$(stat --format=%i $file 2>/dev/null) || continue
  awk -v inode="$inode" '{ n = split($6, at, ":"); if (at[n] == inode) print $5 }' /proc/locks | while read -r pid; do
    find "/proc/$pid/fd" -lname $file 2>/dev/null | grep -q . &&
      say lock "$pid $(tr '\0' ' ' < "/proc/$pid/cmdline" | cut -c 1-80)"
  done
done
dpkg-query --show --showformat='package ${db:Status-Abbrev} ${Package}\n' | grep -vE '^package (ii|rc|un|pn) '
ls /var/lib/dpkg/updates 2>/dev/null | grep -q . && say interrupted dpkg
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n -E 's/^[[:space:]]*deb[[:space:]]+/source /p'
for file in /etc/apt/sources.list.d/*.sources; do
  test -e "$file" && { echo stanza; sed -E '/^#/d; s/^[[:space:]]*$/stanza/; t; s/^/stanza /' "$file"; }
done
if ! find /var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists -maxdepth 0 -mmin -1440 2>/dev/null | grep -q . &&
  ! apt-config dump 2>/dev/null | grep -qiE '^Acquire::https?::Proxy'; then
  for address in $(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed '/^[[:space:]]*#/d' |
    grep -oE 'https?://[^][/ ]+' | sort -u | head -n 5); do
    host=${address#*//} port=80
    case $address in https:*) port=443 ;; esac
    case $host in *:*) port=${host##*:} host=${host%:*} ;; esac
    host=${host##*@}
    {
      if ! timeout 5 getent ahosts "$host" >/dev/null; then
        say unresolved "$host"
      elif ! timeout 5 bash -c ': </dev/tcp/$0/$1' "$host" "$port" 2>/dev/null; then
        say unreachable "$host $port"
      fi
    } &
  done
  wait
fi

if test -n "$timezone" && test -d /usr/share/zoneinfo/Etc && ! test -e "/usr/share/zoneinfo/$timezone"; then say timezone missing; fi
test "$(cat /sys/fs/selinux/enforce 2>/dev/null)" = 1 && say selinux enforcing
sed -n -E 's/^(.*(nginx|postgres).*) \(enforce\)$/apparmor \1/p' /sys/kernel/security/apparmor/profiles 2>/dev/null
true
