import { readFileSync } from 'node:fs';
import { cancellationSignal } from '@temporalio/activity';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { FenceNumber, Hosts } from '../hosts/hosts.js';

const script = readFileSync(new URL('./paths.sh', import.meta.url), 'utf8');

/** The largest file that guardia changes: its old content goes into the journal. Bytes. */
export const MOST_CHANGED_BYTES = 512 * 1024;
/** How many paths are looked at by one command: what it prints has a bound of 1 MiB. */
const PATHS_AT_ONCE = 20;

/** What stands, or shall stand, at a path. `content` in latin1: one character is one byte. */
export interface PathState {
  type: 'absent' | 'file' | 'directory' | 'symlink' | 'other';
  mode?: string;
  owner?: string;
  group?: string;
  size?: number;
  sha256?: string;
  target?: string;
  /** Of a link to a directory: what that is like. */
  leadsTo?: { mode: string; owner: string; group: string };
  content?: string;
}

/** A state that a path can be put into. */
export type WantedPath =
  | { type: 'absent' }
  | { type: 'file'; mode: string; owner: string; group: string; sha256: string; content: string }
  | { type: 'directory'; mode: string; owner: string; group: string }
  | { type: 'symlink'; target: string; owner?: string; group?: string };

/** Looks at paths; of a file at most `mostBytes` of its content are brought. Reads only. */
export async function lookAtPaths(
  hosts: Hosts,
  target: HostTarget,
  paths: readonly string[],
  mostBytes: number,
): Promise<PathState[]> {
  const found: PathState[] = [];
  for (let from = 0; from < paths.length; from += PATHS_AT_ONCE) {
    const some = paths.slice(from, from + PATHS_AT_ONCE);
    const { stdout } = await hosts.run(
      target,
      { argv: ['/bin/bash', '-c', script, 'paths', 'look', String(mostBytes), ...some] },
      { signal: cancellationSignal() },
    );
    found.push(...stdout.trimEnd().split('\n').map(stateOf));
  }
  return found;
}

/** One path, with its whole content. Throws `HostUnusable` for a file above MOST_CHANGED_BYTES. */
export async function lookAtPath(hosts: Hosts, target: HostTarget, path: string): Promise<PathState> {
  const [state] = await lookAtPaths(hosts, target, [path], MOST_CHANGED_BYTES + 1);
  if (!state) throw new Error(`no answer for ${path}`);
  if ((state.size ?? 0) > MOST_CHANGED_BYTES)
    throw failure(
      'HostUnusable',
      `${path} on ${target.name} has ${state.size} bytes; guardia changes files of at most ${MOST_CHANGED_BYTES}`,
      { host: target.name },
    );
  return state;
}

/**
 * Puts a path into a state, atomically: a file and a link by rename, synced. `now` must still stand there, else `ThirdState`.
 * Idempotent only together with a look before it.
 */
export async function putPath(
  hosts: Hosts,
  target: HostTarget,
  path: string,
  wanted: WantedPath,
  now: PathState,
  options: { fence: FenceNumber; step: string },
): Promise<void> {
  const field = (key: 'mode' | 'owner' | 'group'): string => (wanted as Record<string, string | undefined>)[key] ?? '-';
  const owner = field('owner') === '-' ? 'root' : field('owner');
  const group = field('group') === '-' ? 'root' : field('group');
  const link = wanted.type === 'symlink' ? Buffer.from(wanted.target, 'latin1').toString('base64') : '-';
  const argv = [
    'put',
    path,
    wanted.type,
    field('mode'),
    owner,
    group,
    link,
    lineOf(now),
    wanted.type === 'file' ? wanted.sha256 : '-',
  ];
  try {
    await hosts.run(
      target,
      {
        argv: ['/bin/bash', '-c', script, 'paths', ...argv],
        stdin: Buffer.from(wanted.type === 'file' ? wanted.content : '', 'latin1'),
      },
      { fence: options.fence, signal: cancellationSignal() },
    );
  } catch (error) {
    if (!isFailure(error, 'CommandFailed')) throw error;
    const code = (error.details?.[0] as { exitCode?: number } | undefined)?.exitCode;
    const about = { host: target.name, step: options.step };
    if (code === 3)
      throw failure('ThirdState', `${path} on ${target.name} was changed by somebody else just now`, {
        ...about,
        remedy: 'Look who else works on the host, then start the run again',
      });
    if (code === 5)
      throw failure('ThirdState', `${path} on ${target.name} holds files that did not come with this step`, {
        ...about,
        remedy: `Look at them (ls -la ${path}); move them away or keep the directory`,
      });
    throw error;
  }
}

/** Whether a path is as it is wanted. */
export function isAsWanted(now: PathState, wanted: WantedPath): boolean {
  if (now.type !== wanted.type) return false;
  switch (wanted.type) {
    case 'absent':
      return true;
    case 'symlink':
      return now.target === wanted.target;
    case 'directory':
      return now.mode === wanted.mode && now.owner === wanted.owner && now.group === wanted.group;
    case 'file':
      return (
        now.sha256 === wanted.sha256 &&
        now.mode === wanted.mode &&
        now.owner === wanted.owner &&
        now.group === wanted.group
      );
  }
}

/** What was seen, as a state that the path can be put back into. Throws for what guardia does not change: devices, sockets. */
export function asWanted(state: PathState, path: string): WantedPath {
  const { type, mode = '', owner = '', group = '' } = state;
  switch (type) {
    case 'absent':
      return { type };
    case 'symlink':
      return { type, target: state.target ?? '', owner, group };
    case 'directory':
      return { type, mode, owner, group };
    case 'file':
      return { type, mode, owner, group, sha256: state.sha256 ?? '', content: state.content ?? '' };
    case 'other':
      throw failure('HostUnusable', `${path} is neither a file, nor a directory, nor a link`);
  }
}

function stateOf(line: string): PathState {
  const [type = 'other', mode = '-', owner = '-', group = '-', size = '-', sha256 = '-', target = '-', content = '-'] =
    line.split(' ');
  const text = (base64: string): string => Buffer.from(base64, 'base64').toString('latin1');
  return {
    type: type as PathState['type'],
    ...(mode === '-' ? {} : { mode, owner, group }),
    ...(size === '-' ? {} : { size: Number(size), sha256 }),
    ...(target === '-' ? {} : { target: text(target) }),
    ...(content === '-'
      ? {}
      : type === 'symlink'
        ? { leadsTo: directoryOf(text(content)) }
        : { content: text(content) }),
  };
}

function directoryOf(text: string): NonNullable<PathState['leadsTo']> {
  const [mode = '', owner = '', group = ''] = text.split(':');
  return { mode, owner, group };
}

function lineOf(state: PathState): string {
  const link = state.target === undefined ? '-' : Buffer.from(state.target, 'latin1').toString('base64');
  const { type, mode = '-', owner = '-', group = '-', size = '-', sha256 = '-' } = state;
  return [type, mode, owner, group, size, sha256, link].join(' ');
}
