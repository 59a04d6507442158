# Looks at a host as its root, past guardia: what a run that is rolled back has to leave as it was. One section for each facet.
# Left out is only what changes by itself, each with its reason.
set -u
export LC_ALL=C SYSTEMD_PAGER='' SYSTEMD_COLORS=0
cd /

# Everything that somebody could have put there, with mode, owner and content or target.
places='etc opt usr/local var/spool var/www srv root home'
# .mirror.git is a cache of the repository; node_modules is what a build made of a lock file that is compared; OpenBao writes into its data whenever it
# starts; the linker keeps a cache; passwd and its kin are compared as accounts; resolv.conf belongs to the lab.
prune=(-path opt/proofpass/releases/.mirror.git -o -name node_modules -o -path etc/ld.so.cache -o -path etc/resolv.conf -o -path 'etc/*-'
  -o -path opt/proofpass/openbao/data -o -path etc/passwd -o -path etc/group -o -path etc/shadow -o -path etc/gshadow -o -path etc/subuid -o -path etc/subgid -o -path etc/.pwd.lock)
there=()
for place in $places; do [ -e "$place" ] && there+=("$place"); done
echo '=== files'
find "${there[@]}" -xdev \( "${prune[@]}" \) -prune -o -printf '%p %y %m %u:%g %l\n' | sort
echo '=== content'
find "${there[@]}" -xdev \( "${prune[@]}" \) -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum | sed -E 's/^([0-9a-f]{16})[0-9a-f]* +/\1 /'

echo '=== settings'
# Of secrets only whether there is one: an installation may make them up, and then their files are never the same.
find opt -xdev -name .env -type f 2>/dev/null | sort | while read -r file; do
  sed -nE "s,^([A-Za-z_][A-Za-z0-9_]*)=(..*)?\$,$file \\1 \\2,p" "$file" | awk '{ print $1, $2, (NF > 2 ? "is set" : "is empty") }'
done

echo '=== accounts'
# Without those that Debian's packages make: they stay when these are purged.
packaged='^(postgres|redis|ssl-cert|docker|haproxy|prometheus|_chrony)[: ]'
getent passwd | grep -vE "$packaged" | sort
getent group | grep -vE "$packaged" | sort
# Whether and how somebody may log in, not with which password.
awk -F: '{ print $1, ($2 ~ /^\$/ ? "password" : $2) }' /etc/shadow | grep -vE "$packaged" | sort

echo '=== packages'
# Without versions: an installation may bring newer ones of what was there, which stay, and its step says so.
dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sort
apt-mark showhold | sed 's/^/held /'

echo '=== units'
# What is transient is of guardia's jobs; generated ones come from files.
systemctl list-unit-files --no-legend --no-pager | awk '$2 != "transient" && $2 != "generated" { print $1, $2 }' | sort
systemctl list-units --all --no-legend --no-pager --plain --type=service,timer,socket,path |
  awk '$2 != "not-found" && ($3 == "active" || $3 == "failed" || $3 == "activating") { print $1, $3 }' |
  grep -vE '^(user|user-runtime-dir)@|^systemd-(tmpfiles-clean|fsck|timedated|hostnamed|localed)|^(apt-daily|man-db|dpkg-db-backup|e2scrub|logrotate|fstrim)' | sort
# What runs is of the release that the link points to.
properties() { systemctl show '*.service' -p Id -p "$1" | awk -F= -v of="$1" '$1 == "Id" { id = $2 } $1 == of { is = $2 } NF == 0 { print is, id } END { print is, id }'; }
properties MainPID | grep -v '^0 ' | while read -r pid unit; do
  at=$(readlink "/proc/$pid/cwd") && [ "$at" != / ] && echo "$unit runs in $at"
done | sort
# Loaded is what the files say.
properties NeedDaemonReload | sed -n 's/^yes \(.*\)/\1 is not loaded as its files say/p' | sort

echo '=== listening'
ss -Htlnp | awk '{ print $4, $6 }' | sed -E 's/,(pid|fd)=[0-9]+//g' | sed -E 's/users:\(\(("[^"]*").*/\1/' | grep -v containerd | sort -u

echo '=== containers'
if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  docker ps -a --format '{{.Names}} {{.Image}} {{.State}} {{.Label "com.docker.compose.config-hash"}}' | sort
  # Compose gives binds in any order. Without the log settings: a container that is made anew on the way back has those that Docker had then.
  docker ps -aq | xargs -r docker inspect -f '{{$name := .Name}}{{$name}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}} {{json .HostConfig.PortBindings}} {{json .Config.Cmd}}{{range .HostConfig.Binds}}{{"\n"}}{{$name}} has {{.}}{{end}}' | sort
  docker volume ls -q | sort
  docker network ls --format '{{.Name}} {{.Driver}}' | sort
  docker images --format '{{.Repository}}:{{.Tag}}' | sort
fi

echo '=== vault'
curl -s -m 5 http://127.0.0.1:8200/v1/sys/seal-status | grep -oE '"(initialized|sealed)":[a-z]+'

echo '=== network'
ip -o link | sed -E 's,^[0-9]+: ([^:@]*).*,\1,' | grep -vE '^(veth|br-[0-9a-f]{12}$)' | sort
echo "forwards $(cat /proc/sys/net/ipv4/ip_forward)"

echo '=== rules'
# In their order, without chains that are there by themselves and accept. Docker's own are sorted: addresses and bridges of containers are given anew each time, and their rules come as they start;
# a Docker that is restarted beside running containers looks at its isolation before DOCKER-USER, otherwise after it, and both before it accepts anything.
own='container| br | docker0 |-A FORWARD -j DOCKER-'
for family in iptables ip6tables; do
  command -v "$family-save" >/dev/null || continue
  rules=$("$family-save" | grep -E '^(\*|:|-A)' | grep -vE '^:[A-Z]+ ACCEPT' | sed -E 's/ ?\[[0-9:]*\]//; s/br-[0-9a-f]{12}/br/g; s/172\.(1[7-9]|2[0-9])\.[0-9]+\.[0-9]+/container/g' |
    awk -v family="$family" '/^\*/ { table = $0; next } { print family, table, $0 }')
  grep -vE "$own" <<<"$rules"
  grep -E "$own" <<<"$rules" | sort
done
# Tables that are not those of iptables.
if command -v nft >/dev/null; then
  nft list tables | grep -vE '^table ip6? (filter|nat|mangle|raw|security)$' | while read -r _ table; do nft -s list table $table; done
fi

echo '=== database'
if systemctl is-active -q postgresql && command -v psql >/dev/null; then
  sql() { runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }
  sql postgres "select 'role', rolname, rolsuper, rolcanlogin, rolcreatedb, rolconfig, rolpassword is not null, array(select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid where m.member = a.oid) from pg_authid a order by 2" 2>/dev/null ||
    sql postgres "select 'role', rolname, rolsuper from pg_roles order by 2"
  sql postgres "select 'setting', name, setting, pending_restart from pg_settings where source not in ('default', 'override', 'client', 'session') order by 2"
  sql postgres "select 'access', type, database, user_name, address, auth_method from pg_hba_file_rules order by line_number"
  for database in $(sql postgres "select datname from pg_database where not datistemplate order by 1"); do
    echo "database $database"
    runuser -u postgres -- pg_dump --schema-only --dbname "$database" | grep -vE '^(--|\\(un)?restrict|$)'
  done
  sql proofpass_prod 'select name from schema_migrations order by 1' 2>/dev/null
fi

echo '=== balancer'
# Whether a server is taken out, not whether its check has seen it yet.
if [ -S /run/haproxy/admin.sock ]; then
  echo 'show servers state' | socat - /run/haproxy/admin.sock | awk '$1 ~ /^[0-9]+$/ && NF > 6 { print $2, $4, $7 }' | sort
fi

echo '=== left over'
# What guardia keeps while it works, and has to take away itself.
systemctl list-units --all --plain --no-legend 'guardia-job-*' | awk '{ print "unit", $1 }'
find /var/lib/guardia/jobs /var/lib/guardia/journal /var/lib/guardia/left /var/lib/guardia/holders /var/lib/guardia/dead-man -mindepth 1 2>/dev/null | sort
find /tmp /var/tmp /dev/shm -mindepth 1 \( -name 'systemd-private-*' -o -path /dev/shm/guardia-0 -o -path '/dev/shm/PostgreSQL.*' \) -prune -o -print 2>/dev/null | sort
grep -v ' closed$' /var/lib/guardia/fence 2>/dev/null | awk '{ print "fence open" }'
echo '=== end'
