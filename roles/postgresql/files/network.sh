# What the server needs for other hosts, as far as it is missing: an authority, a certificate that this has signed, and
# passwords. sh -eu network.sh ADDRESS APP...
#
# The authority's key stays the same when its certificate is made anew, so that those who have the old one go on.
address=$1
shift
umask 077
place=/etc/slipway/postgresql
days=3650
year=$((365 * 86400))
install -d -m 0755 /etc/slipway "$place"
cd "$place"

is_fresh() {
  openssl x509 -in "$1" -noout -checkend "$year" >/dev/null 2>&1
}

case $address in
  *:*) kind=IP check=-checkip ;;
  *[!0-9.]*) kind=DNS check=-checkhost ;;
  *) kind=IP check=-checkip ;;
esac

if ! test -s authority.key; then
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out authority.key.new
  mv authority.key.new authority.key
  rm -f authority.pem
fi
if ! is_fresh authority.pem; then
  openssl req -x509 -key authority.key -days "$days" -subj "/CN=Slipway databases of $(hostname)" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
    -out authority.pem.new
  chmod 0644 authority.pem.new
  mv authority.pem.new authority.pem
  echo "made the authority"
fi

if ! { is_fresh server.pem && test -s server.key && openssl verify -CAfile authority.pem server.pem >/dev/null 2>&1 &&
  openssl x509 -in server.pem -noout "$check" "$address" | grep -q ' does match'; }; then
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out server.key.new
  openssl req -new -key server.key.new -subj "/CN=$(printf '%.64s' "$address")" -out server.csr.new
  printf '%s\n' "subjectAltName=$kind:$address" basicConstraints=critical,CA:FALSE extendedKeyUsage=serverAuth \
    >server.ext.new
  openssl x509 -req -in server.csr.new -days "$days" -CA authority.pem -CAkey authority.key \
    -set_serial "0x$(openssl rand -hex 16)" -extfile server.ext.new -out server.pem.new 2>/dev/null
  chown postgres: server.key.new server.pem.new
  mv server.key.new server.key
  mv server.pem.new server.pem
  rm server.csr.new server.ext.new
  echo "made the certificate for $address"
fi

for app; do
  file=/etc/slipway/$app.database
  for name in SLIPWAY_DATABASE_PASSWORD SLIPWAY_MIGRATION_PASSWORD; do
    if ! grep -qs "^$name=." "$file"; then
      printf '%s=%s\n' "$name" "$(openssl rand -hex 24)" >>"$file"
      echo "made $name of $app"
    fi
  done
done
