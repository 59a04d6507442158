#!/bin/sh
# make-certificates.sh DIRECTORY SERVER_NAME... : certificates for a Temporal cluster of one's own.
#
#   ca.pem, ca.key          the authority: whoever has a certificate from it may use the cluster. Keep ca.key offline
#   server.pem, server.key  the server, under these names (DNS names or IP addresses)
#   client.pem, client.key  workers and operators; `make-certificates.sh DIRECTORY --client NAME` makes NAME.pem for one more
#
# What exists is left as it is: to renew a certificate, remove it and run this again. Valid for 825 days, the authority for ten years.
set -eu
umask 077
[ $# -ge 2 ] || { echo "usage: make-certificates.sh DIRECTORY SERVER_NAME... | DIRECTORY --client NAME" >&2; exit 2; }
directory=$1
shift
mkdir -p "$directory"
cd "$directory"

# issue NAME COMMON_NAME EXTENSIONS
issue() {
  [ -e "$1.pem" ] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
  printf '%s\n' "$3" >"$1.ext"
  openssl req -new -key "$1.key" -subj "/CN=$2" |
    openssl x509 -req -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days 825 -sha256 -extfile "$1.ext" -out "$1.pem.new"
  rm "$1.ext"
  mv "$1.pem.new" "$1.pem"
}

if [ ! -e ca.pem ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -subj '/CN=guardia Temporal CA' -days 3650 -sha256 -out ca.pem.new \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'
  mv ca.pem.new ca.pem
fi

client_extensions='basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth'

if [ "$1" = --client ]; then
  issue "$2" "$2" "$client_extensions"
  exit 0
fi

names=
for name in "$@"; do
  case $name in
    *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$name" ;;
    *) names="$names,DNS:$name" ;;
  esac
done
issue server "$1" "basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=${names#,}"
issue client guardia "$client_extensions"
