import { failure } from '../contracts/errors.js';
import { isAddress } from '../contracts/network.js';
import type { Step } from '../contracts/plan.js';
import { isInstalled, type Program, type ProvisionFile } from '../contracts/provision.js';
import { isUnitActive } from '../contracts/units.js';
import { call, idPart } from '../steps/call.js';
import { directory, file, noFile, symlink } from '../steps/file.js';
import { applied, unit } from '../steps/units.js';
import { composed } from './compose-project.js';
import { withOtherKeys } from './docker-daemon.js';
import { awayWithUnit } from './downtime.js';
import { haproxyConfiguration } from './haproxy.js';
import { kernelSettings } from './observation.js';
import { fill, loginsIn } from './template.js';
import { readLater, RESTART_SECONDS, type Work } from './work.js';

/** One program: its directories and files, judged by itself before it reads them, and its unit. */
export function program(work: Work, name: string): Step[] {
  const { system, part, now, notes, downtime } = work;
  const wanted = part.programs.find(([one]) => one === name)?.[1];
  if (!wanted) return [];
  const coming = wanted.packages.some((spec) => !isInstalled(spec, now.packages));
  const files = [
    ...wanted.directories.flatMap((one) =>
      directory(now.files[one.path], { ...one, host: part.host, why: `${wanted.title} needs it` }),
    ),
    ...wanted.files.flatMap((one) => programFile(work, wanted, one)),
    ...wanted.links.flatMap((one) => symlink(now.files[one.path], { ...one, why: `${wanted.title} reads it there` })),
    // What a package brings can only be seen once it is installed.
    ...wanted.absent.flatMap((path) =>
      noFile(coming ? { type: 'file' } : now.files[path], { path, why: `it would stand against ${wanted.title}` }),
    ),
  ];
  const check: Step[] =
    wanted.check === undefined || files.length === 0
      ? []
      : [
          {
            id: `check-${idPart(name)}`,
            title: `have ${wanted.check} judge its configuration`,
            why: 'what is wrong is found before it is put to use',
            do: call('checkConfiguration', {
              kind: wanted.check,
              paths: judged(wanted),
            }),
            undo: { none: 'it only looks' },
          },
        ];
  // Machine-wide settings belong to the machine: inside a container there is only the file.
  if (wanted.check === 'sysctl' && !now.container) {
    const argument = { paths: judged(wanted) };
    const other = kernelChanges(work, wanted);
    if (files.length === 0 && other.length > 0)
      notes.push(
        `${part.host}: the kernel has not what the files of ${name} say: ${other.join(', ')}. If it is so again after a boot, another file is read later: grep -rE '${other.map((change) => change.split(':')[0]).join('|')}' /etc/sysctl.conf /etc/sysctl.d /usr/lib/sysctl.d`,
      );
    if (files.length > 0 || other.length > 0)
      check.push({
        id: `apply-${idPart(name)}`,
        title: `put the kernel settings of ${name} in force`,
        why: other.length > 0 ? other.join(', ') : 'as the next boot will',
        do: call('applySysctl', argument),
        undo: call('restoreSysctl', argument),
      });
  }
  if (wanted.check === 'sysctl' && now.container)
    notes.push(
      `${part.host} is a container: the settings of ${name} are machine-wide and are written to their file only.`,
    );
  if (wanted.compose) return composed(work, name, wanted.title, wanted.compose, [...files, ...check]);
  const { unit: service } = wanted;
  if (service === undefined) {
    if (wanted.check === 'units')
      for (const { path } of wanted.files)
        if (now.files[path]?.type === 'file' && files.some(({ do: { with: argument } }) => argument['path'] === path))
          notes.push(readLater(work, path));
    return [...files, ...check];
  }
  const kept = wanted.start === 'never' || (wanted.start === 'outside-containers' && now.container);
  if (wanted.start === 'outside-containers' && now.container)
    notes.push(
      `${part.host} is a container, in which ${service} cannot run: its files are written, it is not started.`,
    );
  const running = isUnitActive(now.units[service]);
  if (files.length > 0 && wanted.apply !== 'reload' && running && !kept)
    downtime.push(...awayWithUnit(system, part.host, service, RESTART_SECONDS, name));
  // A unit that does not run yet reads its files when it starts; one that its package starts reads them now.
  const changed = kept
    ? [...files, ...check]
    : applied(
        { unit: service, how: wanted.apply, why: `${wanted.title}: it reads its files again`, id: idPart(name) },
        [...files, ...check],
      );
  const started = kept
    ? []
    : unit(now.units[service], {
        unit: service,
        enabled: true,
        active: true,
        why: `${wanted.title} runs, and starts with the host`,
      });
  const guarded = jailsOf(work, wanted);
  const jails: Step[] =
    guarded.length === 0 || [...changed, ...started].length === 0
      ? []
      : [
          {
            id: `jails-${idPart(name)}`,
            title: `see that fail2ban guards ${guarded.join(' and ')}`,
            why: 'proved by fail2ban itself',
            do: call('checkJails', { jails: guarded }),
            undo: { none: 'it only looks' },
          },
        ];
  return [...changed, ...started, ...jails];
}

/** What a check is told: of a compose project the file that names all others. */
function judged({ check, files }: Program): string[] {
  if (check === 'compose') return files.map(({ path }) => path).filter((path) => /compose\.ya?ml$/.test(path));
  return check !== undefined && ['units', 'sysctl', 'logrotate', 'audit', 'limits'].includes(check)
    ? files.map(({ path }) => path)
    : [];
}

/** What of a program's settings the kernel has otherwise: `vm.swappiness: 60 -> 10`. */
function kernelChanges({ system, part, now, sources }: Work, wanted: Program): string[] {
  return Object.entries(kernelSettings(system, part.host, wanted, sources)).flatMap(([key, value]) => {
    const is = now.kernel?.[key];
    return is === undefined || is === value ? [] : [`${key}: ${is} -> ${value}`];
  });
}

/** The jails that a program's files turn on. */
function jailsOf({ sources }: Work, { check, files }: Program): string[] {
  if (check !== 'fail2ban') return [];
  return files.flatMap(({ source }) =>
    (sources[source ?? ''] ?? '')
      .split(/^(?=\[)/m)
      .flatMap((section) => (/^enabled\s*=\s*true\b/m.test(section) ? (/^\[([^\]]+)\]/.exec(section)?.[1] ?? []) : [])),
  );
}

function programFile(work: Work, wanted: Program, one: ProvisionFile): Step[] {
  const { system, part, now, notes, sources } = work;
  const missing = one.needs
    .map((path) => fill(path, system, part.host, one.path))
    .filter((path) => (now.files[path]?.type ?? 'absent') === 'absent');
  const why = wanted.title;
  const { path, mode, owner, group } = one;
  const place = { path, mode, owner, group, why };
  const source = missing.length > 0 ? one.until : one.source;
  if (missing.length > 0 && servesTls(now.files[path]?.text)) {
    notes.push(
      `${part.host}: ${path} serves TLS and stays as it is, because ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not there. Issue it under this name, then run this again.`,
    );
    return [];
  }
  if (one.generate === 'haproxy')
    return file(now.files[path], { ...place, content: haproxyConfiguration(system, wanted.on, missing.length === 0) });
  if (missing.length > 0)
    notes.push(
      `${part.host}: ${path} is ${source === undefined ? 'not written' : 'written in its first form'} until ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} there.`,
    );
  if (source === undefined) return [];
  const template = sources[source] ?? '';
  // Workers may take turns: the address of another one stays. What is masked in its place is none.
  const logins = new Set([
    ...loginsIn(template, now.files[path]?.text ?? '').filter(isAddress),
    ...[now.firewall?.login?.from ?? []].flat(),
  ]);
  const content = fill(template, system, part.host, source, { login: [...logins].join(' ') });
  // Of a link nothing is read: its keys would be lost.
  const { type = 'absent', target } = now.files[path] ?? {};
  if (one.keepsOthers !== undefined && type !== 'file' && type !== 'absent')
    throw failure(
      'HostUnusable',
      `${path} on ${part.host} is ${type === 'symlink' ? `a link to ${target}` : 'no file'}, and its other keys are to stay`,
      { host: part.host, remedy: 'Put the file itself there' },
    );
  // What is kept is written back: a mark in its place would take it away.
  if (one.keepsOthers !== undefined && (now.files[path]?.masked === true || now.files[path]?.cut === true))
    throw failure(
      'HostUnusable',
      `${path} on ${part.host} holds a secret, or is too long, and its other keys are to stay`,
      {
        host: part.host,
        remedy: 'Put the secret elsewhere, such as a proxy with a password into a drop-in of the unit',
      },
    );
  const kept = one.keepsOthers === undefined ? content : withOtherKeys(part.host, path, now.files[path]?.text, content);
  return file(now.files[path], { ...place, content: kept });
}

/** A site or a front end that listens on 443: in the words of nginx or of HAProxy. */
const servesTls = (text: string | undefined): boolean => /^\s*(?:listen|bind)\s[^\n]*\b443\b/m.test(text ?? '');
