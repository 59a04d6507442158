#!/bin/sh
# set-up-namespace.sh NAMESPACE RETENTION : creates the namespace, sets how long closed runs are kept (90d), and registers guardia's search
# attributes. Idempotent: run it again after an update of guardia. The connection comes from TEMPORAL_* or a profile, as for `temporal`.
set -eu
namespace=$1
retention=$2
if temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; then
  temporal operator namespace update --namespace "$namespace" --retention "$retention"
else
  temporal operator namespace create --namespace "$namespace" --retention "$retention" --description 'guardia: durable runbooks'
fi
# Every service hears of a new namespace some seconds later.
tries=0
until temporal operator search-attribute list --namespace "$namespace" >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "set-up-namespace: namespace $namespace does not appear" >&2; exit 1; }
  sleep 1
done
# What is there already is only noted in the server's log.
temporal operator search-attribute create --namespace "$namespace" \
  --name GuardiaRunbook --type Keyword \
  --name GuardiaSystem --type Keyword \
  --name GuardiaPhase --type Keyword \
  --name GuardiaHosts --type KeywordList \
  --name GuardiaEnd --type Keyword \
  --name GuardiaRequester --type Keyword \
  --name GuardiaWaitingFor --type Keyword
