import { createHash } from 'node:crypto';
import type { Lab } from '../../infra/lab/lab.js';

/**
 * What a run must leave as it was when it is rolled back, facet by facet, seen past guardia by root on the host: files with mode, owner and content,
 * links, accounts, packages, units, timers, containers, firewall rules, crontabs, the schema of the database and its migrations.
 */
const FACETS: Record<string, string> = {
  files: `cd /; for at in etc opt usr/local var/spool/cron root home; do
      find $at -xdev \\( -path opt/proofpass/releases/.mirror.git -o -path 'etc/*-' -o -path etc/ld.so.cache -o -path 'etc/systemd/system/*.wants' \
        -o -path 'opt/proofpass/*/node_modules' -o -name '.npm' -o -name '.psql_history' -o -path root/.docker -o -path 'home/guardia*' \
        -o -path 'etc/fail2ban' -o -path etc/subuid -o -path etc/subgid -o -path etc/.pwd.lock \\) -prune \
        -o -type f -printf '%p %m %u:%g ' -exec sha256sum -b {} \\; -o -type d -printf '%p %m %u:%g d\\n' -o -type l -printf '%p -> %l\\n'
    done | sed -E 's/ \\*.*$//' | sort`,
  accounts: 'getent passwd | sort; getent group | sort',
  packages: `dpkg-query -W -f '\${db:Status-Abbrev} \${Package} \${Version}\\n' | grep '^ii' | sort`,
  units: `systemctl list-unit-files --no-legend --no-pager | awk '{print $1, $2}' | grep -v -E 'guardia|transient|generated' | sort
    systemctl list-units --no-legend --no-pager --plain --type=service,timer,socket --state=active | awk '{print $1}' \
      | grep -v -E 'guardia-|systemd-|user@|session|run-|getty|dbus|e2scrub|apt-|man-db|dpkg-db' | sort`,
  containers: `command -v docker >/dev/null && docker ps -a --format '{{.Names}} {{.Image}} {{.State}}' | sort; command -v docker >/dev/null && docker volume ls -q | sort; true`,
  rules: `for command in iptables-save ip6tables-save; do command -v $command >/dev/null && $command | grep -E '^(:|-A)' | grep -v -E 'docker|DOCKER-ISOLATION|br-' | sed 's/\\[[0-9:]*\\]//' | sort; done; true`,
  database: `systemctl is-active -q postgresql || exit 0; runuser -u postgres -- psql -XAtqc 'select datname from pg_database order by 1; select rolname, rolsuper, rolcanlogin from pg_roles order by 1'
    runuser -u postgres -- psql -XAtqc "select 1 from pg_database where datname = 'proofpass_prod'" | grep -q 1 || exit 0
    runuser -u postgres -- pg_dump --schema-only proofpass_prod | grep -v restrict
    runuser -u postgres -- psql -XAtq -d proofpass_prod -c 'select name from schema_migrations order by 1' 2>/dev/null; true`,
};

/** The text of each facet of each host, by `HOST FACET`. */
export type Observed = Record<string, string>;

/** Looks at hosts of a lab. A facet that cannot be looked at is told as such and never equals another one. */
export async function observeHosts(lab: Lab, hosts: readonly string[]): Promise<Observed> {
  const seen: Observed = {};
  for (const host of hosts) {
    const script = Object.entries(FACETS)
      .map(([name, text]) => `echo "=== ${name}"; (${text}) 2>/dev/null`)
      .join('\n');
    const { exitCode, stdout } = await lab.exec(host, ['/bin/bash', '-c', script]);
    if (exitCode !== 0) seen[`${host} looking`] = `exit code ${exitCode} ${Date.now()}`;
    for (const part of stdout.split(/^=== /m).slice(1)) {
      const end = part.indexOf('\n');
      seen[`${host} ${part.slice(0, end)}`] = part.slice(end + 1);
    }
  }
  return seen;
}

/** What is different, one line each, at most `most` of them. Pure. */
export function differences(before: Observed, after: Observed, most = 6): string[] {
  const lines = Object.keys({ ...before, ...after }).flatMap((facet) => {
    const [was, is] = [before[facet] ?? '', after[facet] ?? ''].map((text) => text.split('\n'));
    const gone = new Set(was);
    const here = new Set(is);
    return [
      ...(was ?? []).filter((line) => !here.has(line)).map((line) => `${facet}: - ${line}`),
      ...(is ?? []).filter((line) => !gone.has(line)).map((line) => `${facet}: + ${line}`),
    ];
  });
  return lines.length <= most ? lines : [...lines.slice(0, most), `and ${lines.length - most} more`];
}

/** One digest over all facets. */
export const digestOf = (seen: Observed): string =>
  createHash('sha256')
    .update(JSON.stringify(Object.entries(seen).sort()))
    .digest('hex')
    .slice(0, 12);
