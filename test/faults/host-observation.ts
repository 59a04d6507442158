import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab } from '../../infra/lab/lab.js';

const script = readFileSync(new URL('./host-observation.sh', import.meta.url), 'utf8');

/** The lines of each facet of each host, by `HOST FACET`: what somebody sees who is not guardia. */
export type Observed = Record<string, string[]>;

/** Looks at hosts of a lab as their root, past their network. Throws where a host cannot be looked at to the end. */
export async function observeHosts(lab: Lab, hosts: readonly string[]): Promise<Observed> {
  const each = await Promise.all(
    hosts.map(async (host) => {
      const { exitCode, stdout, stderr } = await lab.exec(host, ['/bin/bash', '-c', script]);
      const [, ...parts] = stdout.split(/^=== /m);
      if (exitCode !== 0 || parts.pop()?.trim() !== 'end')
        throw new Error(`${host} cannot be looked at: exit code ${exitCode}: ${stderr}`);
      return parts.map((part): [string, string[]] => {
        const [facet, ...lines] = part.trimEnd().split('\n');
        return [`${host} ${facet}`, lines];
      });
    }),
  );
  return Object.fromEntries(each.flat());
}

/** When the units started that run now, by host: another text after each start. */
export async function startsOf(lab: Lab, units: Record<string, string>): Promise<Record<string, string>> {
  const each = await Promise.all(
    Object.entries(units).map(async ([host, unit]) => {
      const { stdout } = await lab.exec(host, ['systemctl', 'show', '--value', '--property=InvocationID', unit]);
      return [host, stdout.trim()] as const;
    }),
  );
  return Object.fromEntries(each);
}

/**
 * Looks until nothing is different any more from what is expected, or for good: what is coming up gets a while. Returns what is different
 * in the end.
 */
export async function differencesSoon(
  look: () => Promise<Observed>,
  expected: Observed,
  options: { looks?: number; same?: (lines: Observed) => Observed } = {},
): Promise<string[]> {
  const { looks = 4, same = (seen) => seen } = options;
  for (let seen = 1; ; seen++) {
    const found = differences(same(expected), same(await look()));
    if (found.length === 0 || seen === looks) return found;
    await delay(2000);
  }
}

/** What is different, one line each: `HOST FACET: - LINE` for what is gone and `+` for what has come. Pure. */
export function differences(before: Observed, after: Observed): string[] {
  return Object.keys({ ...before, ...after }).flatMap((facet) => {
    const [was, is] = [before[facet] ?? [], after[facet] ?? []];
    if (was.join('\n') === is.join('\n')) return [];
    const changed = [
      ...without(was, is).map((line) => `${facet}: - ${line}`),
      ...without(is, was).map((line) => `${facet}: + ${line}`),
    ];
    return changed.length > 0 ? changed : [`${facet}: the same lines in another order`];
  });
}

function without(lines: readonly string[], others: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of others) left.set(line, (left.get(line) ?? 0) + 1);
  return lines.filter((line) => {
    const count = left.get(line) ?? 0;
    left.set(line, count - 1);
    return count <= 0;
  });
}

/**
 * The same with what every run names anew, by time, commit and run, and without the digest of what a release says of its own making: for comparing
 * two runs that both succeeded. Pure.
 */
export const withoutRunNames = (seen: Observed): Observed =>
  Object.fromEntries(
    Object.entries(seen).map(([facet, lines]) => [
      facet,
      lines
        .filter((line) => !/^[0-9a-f]{16} .*\/\.guardia-release\.json$/.test(line))
        .map((line) => line.replaceAll(/\d{8}T\d{6}Z-[0-9a-z]{8}-[0-9a-f]{8}/g, 'RELEASE')),
    ]),
  );

/** Files that an installation fills with keys and secrets of its own: Docker's, those of Debian's ssl-cert, and what provision-host makes up. */
const GENERATED =
  /^[0-9a-f]{16} (?=(?:etc\/docker\/key\.json|etc\/ssl\/(?:certs|private)\/ssl-cert-snakeoil\.(?:pem|key)|opt\/.*\/\.env)$)/;

/** The same without the digests of what an installation makes up, nor those of the containers that get it: for comparing two hosts that were both bare. Pure. */
export const withoutGenerated = (seen: Observed): Observed =>
  Object.fromEntries(
    Object.entries(seen).map(([facet, lines]) => [
      facet,
      lines.map((line) => {
        if (facet.endsWith(' content')) return line.replace(GENERATED, 'GENERATED ');
        return facet.endsWith(' containers') ? line.replace(/ [0-9a-f]{64}$/, ' CONFIGURED') : line;
      }),
    ]),
  );

/** The same without releases and journals: for a migration that cannot be taken back, with which what knows the way on has to stay. Pure. */
export const withoutWayOn = (seen: Observed): Observed =>
  Object.fromEntries(
    Object.entries(seen).map(([facet, lines]) => [
      facet,
      lines.filter((line) => !line.includes('/releases/') && !line.startsWith('/var/lib/guardia/journal/')),
    ]),
  );

/** What a step behind the point of no return may have stopped that a later one starts again. */
const RUNNING = ['units', 'listening', 'containers', 'vault', 'network', 'rules', 'balancer'];

/**
 * What stands when a run is ended behind its point of no return: as at the point of no return where the steps behind it change nothing for good, and
 * otherwise, and of what runs, as it was when a person said so. Pure.
 */
export function standing(seen: { committed: Observed; after: Observed; held: Observed }): Observed {
  const [committed, after] = [withoutRunNames(seen.committed), withoutRunNames(seen.after)];
  return Object.fromEntries(
    Object.entries(seen.held).map(([facet, lines]) => {
      const runs = RUNNING.some((one) => facet.endsWith(` ${one}`));
      const isSettled = !runs && committed[facet]?.join('\n') === after[facet]?.join('\n');
      return [facet, isSettled ? (seen.committed[facet] ?? []) : lines];
    }),
  );
}
