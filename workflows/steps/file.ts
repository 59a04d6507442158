import { createTwoFilesPatch } from 'diff';
import { failure } from '../contracts/errors.js';
import type { SeenFile } from '../contracts/files.js';
import { blockIn, type ManagedBlock } from '../contracts/managed-block.js';
import type { Step } from '../contracts/plan.js';
import { call, idPart } from './call.js';

/*
 * Steps that change files, each with its undo, made only where the observation (`observeFiles`) differs from what is wanted: on a host
 * that is as it should be they are no steps at all.
 */

/** The longest diff that a plan carries. Characters. */
const MOST_DIFF = 6_000;

export interface Place {
  path: string;
  /** Why the system needs it, for the plan. */
  why: string;
  /** Unique in the plan; made from the path when missing. */
  id?: string;
}
export interface Ownership {
  mode: string;
  owner: string;
  group: string;
}

/** A file with this text. The observation must have asked for it with `wanted` or `text`. */
export function file(now: SeenFile | undefined, wanted: Place & Ownership & { content: string }): Step[] {
  const { path, content, mode, owner, group, why, id } = wanted;
  const same = now?.type === 'file' && (now.same ?? (now.masked !== true && now.cut !== true && now.text === content));
  if (same && isOwned(now, wanted)) return [];
  return [
    {
      id: id ?? `write-${idPart(path)}`,
      title: `${now === undefined || now.type === 'absent' ? 'write' : same ? 'give mode and owner to' : 'change'} ${path}`,
      why,
      do: call('writeFile', { path, content, mode, owner, group }),
      undo: call('restorePath', { path }),
      diff: fileDiff(path, now, { content, mode, owner, group }),
    },
  ];
}

/**
 * A directory with this mode and owner; what is in it stays. A link to such a directory will do: somebody has put it on another disk. Throws
 * `HostUnusable` for any other link, and for what is no directory.
 */
export function directory(now: SeenFile | undefined, wanted: Place & Ownership & { host?: string }): Step[] {
  const { path, mode, owner, group, why, id, host } = wanted;
  const like = now?.type === 'symlink' ? now.leadsTo : now;
  const made = now === undefined || now.type === 'absent';
  if (!made && like !== undefined && isOwned(like, wanted) && ['directory', 'symlink'].includes(now.type)) return [];
  if (!made && now.type !== 'directory')
    throw failure(
      'HostUnusable',
      `${path}${host === undefined ? '' : ` on ${host}`} is ${now.type !== 'symlink' ? 'no directory' : `a link to ${now.target}, ${now.leadsTo === undefined ? 'which is no directory' : `a directory of ${ownership(now.leadsTo)}, not ${ownership(wanted)}`}`}`,
      {
        ...(host === undefined ? {} : { host }),
        remedy:
          now.leadsTo === undefined
            ? 'Put a directory there, or a link to one, or name another path in the inventory'
            : `Give it that by hand: chown ${owner}:${group} and chmod ${mode}; nothing is changed through a link`,
      },
    );
  return [
    {
      id: id ?? `make-${idPart(path)}`,
      title: made ? `make the directory ${path}` : `give ${path} to ${owner}:${group}, ${mode}`,
      why,
      do: call('makeDirectory', { path, mode, owner, group }),
      undo: call('restorePath', { path }),
      ...(made ? {} : { diff: ownershipDiff(path, now, wanted) }),
    },
  ];
}

/** A symbolic link. */
export function symlink(now: SeenFile | undefined, wanted: Place & { target: string }): Step[] {
  const { path, target, why, id } = wanted;
  if (now?.type === 'symlink' && now.target === target) return [];
  return [
    {
      id: id ?? `link-${idPart(path)}`,
      title: `link ${path} to ${target}`,
      why,
      do: call('makeSymlink', { path, target }),
      undo: call('restorePath', { path }),
    },
  ];
}

/** Nothing at this path. */
export function noFile(now: SeenFile | undefined, unwanted: Place): Step[] {
  const { path, why, id } = unwanted;
  if (now === undefined || now.type === 'absent') return [];
  return [
    {
      id: id ?? `remove-${idPart(path)}`,
      title: `remove ${path}`,
      why,
      do: call('removePath', { path }),
      undo: call('restorePath', { path }),
      ...(now.text === undefined ? {} : { diff: textDiff(path, now.text, '') }),
    },
  ];
}

/** A block of guardia's in a file of somebody else's. The observation must have asked for the text. */
export function block(now: SeenFile | undefined, wanted: Place & ManagedBlock & { content: string }): Step[] {
  const { path, name, comment, at, content, why, id } = wanted;
  const before = now?.text === undefined ? undefined : blockIn(now.text, { name, comment, at });
  if (before === content) return [];
  return [
    {
      id: id ?? `block-${idPart(`${path} ${name}`)}`,
      title: `${before === undefined ? 'add' : 'change'} the block "${name}" in ${path}`,
      why,
      do: call('writeBlock', { path, name, comment, at, content }),
      undo: call('restoreBlock', { path, name, comment, at }),
      diff: textDiff(path, before ?? '', content),
    },
  ];
}

/** What changes in a file, for people: mode and owner, then a unified diff. Pure. */
export function fileDiff(path: string, now: SeenFile | undefined, wanted: Ownership & { content: string }): string {
  const before = now?.type === 'file' ? now : undefined;
  const text = before?.same === true ? '' : textDiff(path, before?.text ?? '', wanted.content, before === undefined);
  const owned = before ? ownershipDiff(path, before, wanted) : `# ${ownership(wanted)}`;
  const notes = [
    owned,
    now?.type === 'symlink' ? `# was a link to ${now.target}` : '',
    before?.cut ? '# the old text is longer than is shown' : '',
  ];
  return [...notes, text].filter((part) => part !== '').join('\n');
}

/** A unified diff of two texts for people, of bounded length. Pure. */
export function textDiff(path: string, before: string, after: string, isNew = false): string {
  const patch = createTwoFilesPatch(isNew ? '/dev/null' : path, path, before, after, undefined, undefined, {
    context: 2,
  });
  const lines = patch.replace(/^(?:Index: .*\n)?=+\n/, '').trimEnd();
  return lines.length <= MOST_DIFF
    ? lines
    : `${lines.slice(0, MOST_DIFF)}\n... ${lines.length - MOST_DIFF} more characters`;
}

function ownershipDiff(path: string, now: SeenFile, wanted: Ownership): string {
  const before = { mode: now.mode ?? '', owner: now.owner ?? '', group: now.group ?? '' };
  return isOwned(now, wanted) ? '' : `# ${path}: ${ownership(before)} becomes ${ownership(wanted)}`;
}

const ownership = ({ mode, owner, group }: Ownership): string => `${mode} ${owner}:${group}`;

const isOwned = (now: Pick<SeenFile, 'mode' | 'owner' | 'group'>, { mode, owner, group }: Ownership): boolean =>
  now.mode === mode && now.owner === owner && now.group === group;
