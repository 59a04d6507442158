import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import {
  AccountName,
  FileMode,
  FileQuestion,
  MOST_FILE_BYTES,
  type SeenFile,
} from '../../workflows/contracts/files.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import { blockIn, BrokenBlock, withBlock, withoutBlock } from '../../workflows/contracts/managed-block.js';
import { targetOf } from '../activity-context.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';
import type { Fingerprints } from '../secrets/fingerprint.js';
import { maskText, maskUnknown } from './mask.js';
import { asWanted, isAsWanted, lookAtPath, lookAtPaths, putPath, type PathState, type WantedPath } from './paths.js';

const ObserveFiles = z.strictObject({ files: z.array(FileQuestion).max(200) });
const Path = z.strictObject({ path: AbsolutePath });
const WriteFile = z.strictObject({
  path: AbsolutePath,
  content: z.string().describe('Text without secrets; files with secrets are composed on the worker'),
  mode: FileMode.optional().describe('Default: as it is, or 0644'),
  owner: AccountName.optional().describe('Default: as it is, or root'),
  group: AccountName.optional().describe('Default: as it is, or root'),
});
const MakeDirectory = z.strictObject({ path: AbsolutePath, mode: FileMode, owner: AccountName, group: AccountName });
const MakeSymlink = z.strictObject({ path: AbsolutePath, target: z.string().min(1) });
const Block = z.strictObject({
  path: AbsolutePath,
  name: z.string().regex(/^[a-z0-9 -]{1,60}$/),
  comment: z.string().default('#'),
  at: z.enum(['start', 'end']).default('end'),
});
const WriteBlock = Block.extend({ content: z.string() });

/** What a change of a path leaves in the journal: how it was, and how the step was to leave it. Mode 0600 on the host. */
interface PathEntry {
  before: WantedPath;
  after: WantedPath;
}
/** The same of a managed block. `block` null: there was none. */
interface BlockEntry {
  block: string | null;
  lineEndAdded: boolean;
  content: string;
}

const sha256 = (latin1: string): string => createHash('sha256').update(latin1, 'latin1').digest('hex');
/** Text of a plan (Unicode) as bytes, one character each. */
const bytesOf = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
const textOf = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8');

/** A file's wanted state from its bytes (latin1). */
export const wantedFile = (content: string, mode: string, owner: string, group: string): WantedPath => ({
  type: 'file',
  mode,
  owner,
  group,
  sha256: sha256(content),
  content,
});

/**
 * Changes one path, with what was there in the journal first. Idempotent by (run, step): a second call finds its work done. Throws
 * `ThirdState` where the path is neither as it was found nor as it is wanted. Returns whether anything had to be done.
 */
export async function changePath(
  hosts: Hosts,
  context: CallContext,
  path: string,
  wanted: (before: PathState) => WantedPath,
): Promise<boolean> {
  const target = targetOf(context);
  const look = () => lookAtPath(hosts, target, path);
  let now: PathState | undefined;
  const { entry } = await remember<PathEntry>(hosts, context, async () => {
    now = await look();
    return { before: asWanted(now, path), after: wanted(now) };
  });
  now ??= await look();
  if (isAsWanted(now, entry.after)) return false;
  if (!isBetween(now, entry))
    throw thirdState(context, path, 'Look at it, then start the run again: it plans from what is there now');
  await putPath(hosts, target, path, entry.after, now, { fence: context.fence, step: context.step });
  return true;
}

/**
 * Puts a path back as the step found it. Without a journal entry nothing was done, and nothing is. Idempotent by (run, step).
 * Throws `ThirdState` where somebody else has changed it since.
 */
export async function restorePath(hosts: Hosts, context: CallContext, path: string): Promise<void> {
  const entry = await recall<PathEntry>(hosts, context);
  if (!entry) return;
  const target = targetOf(context);
  const now = await lookAtPath(hosts, target, path);
  if (isAsWanted(now, entry.before)) return;
  if (!isBetween(now, entry))
    throw thirdState(
      context,
      path,
      'Decide which state is right and put it there by hand; guardia does not overwrite it',
    );
  await putPath(hosts, target, path, entry.before, now, { fence: context.fence, step: context.step });
}

/** One of the two states, or on the way between them: type and content of one, mode and owner of either. */
function isBetween(now: PathState, { before, after }: PathEntry): boolean {
  return [before, after].some((state) => {
    if (now.type !== state.type) return false;
    if (state.type === 'symlink') return now.target === state.target;
    if (state.type === 'absent') return true;
    if (state.type === 'file' && now.sha256 !== state.sha256) return false;
    return (['mode', 'owner', 'group'] as const).every((field) =>
      [before, after].some((one) => (one as Record<string, unknown>)[field] === now[field]),
    );
  });
}

function seen(fingerprints: Fingerprints, question: FileQuestion, state: PathState): SeenFile {
  const mark = (value: string): string => `[masked ${fingerprints.of(Buffer.from(value, 'utf8')).slice(0, 6)}]`;
  const { type, mode, owner, group, size, target, leadsTo } = state;
  const common = {
    type,
    ...(mode === undefined ? {} : { mode, owner, group }),
    ...(target === undefined ? {} : { target: textOf(target) }),
    ...(leadsTo === undefined ? {} : { leadsTo }),
  };
  if (type !== 'file' || state.sha256 === undefined) return common;
  const wanted = question.wanted === undefined ? undefined : sha256(bytesOf(question.wanted));
  const same = wanted === undefined ? undefined : wanted === state.sha256;
  const whole = textOf(state.content ?? '');
  const known = [...(question.known ?? []), ...(question.wanted === undefined ? [] : [question.wanted])];
  const text = (question.secret ? maskUnknown : maskText)(whole, known, mark);
  return {
    ...common,
    size: size ?? 0,
    // Of a file that may hold secrets a plain digest would tell whether a guess is right.
    digest: question.secret || text !== whole ? fingerprints.of(Buffer.from(state.sha256)).slice(0, 32) : state.sha256,
    ...(same === undefined ? {} : { same }),
    ...(question.text || same === false
      ? {
          text,
          ...((size ?? 0) > MOST_FILE_BYTES ? { cut: true } : {}),
          ...(text === whole ? {} : { masked: true }),
        }
      : {}),
  };
}

/** What stands at paths, one answer each by its path. Secrets in texts are masked. Reads only. */
export async function observeFiles(
  hosts: Hosts,
  fingerprints: Fingerprints,
  context: CallContext,
  files: readonly FileQuestion[],
): Promise<Record<string, SeenFile>> {
  const states = await lookAtPaths(
    hosts,
    targetOf(context),
    files.map(({ path }) => path),
    MOST_FILE_BYTES,
  );
  return Object.fromEntries(
    files.map((question, i) => [question.path, seen(fingerprints, question, states[i] ?? { type: 'absent' })]),
  );
}

export function createFileActivities({ hosts, fingerprints }: { hosts: Hosts; fingerprints: Fingerprints }) {
  const readBlock = (context: CallContext, path: string, text: string, block: z.infer<typeof Block>) => {
    try {
      return blockIn(text, block);
    } catch (error) {
      if (!(error instanceof BrokenBlock)) throw error;
      throw thirdState(context, path, `Repair it by hand: ${error.message}`);
    }
  };

  return {
    /** What stands at paths, one answer each by its path. Secrets in texts are masked. Reads only. */
    async observeFiles({ with: raw, context }: CallInput): Promise<{ files: Record<string, SeenFile> }> {
      const { files } = ObserveFiles.parse(raw);
      return { files: await observeFiles(hosts, fingerprints, context, files) };
    },

    /** Writes a file without secrets: atomic, synced. Idempotent by (run, step); its undo is `restorePath`. */
    async writeFile({ with: raw, context }: CallInput) {
      const { path, content, mode, owner, group } = WriteFile.parse(raw);
      await changePath(hosts, context, path, (before) => {
        const like: PathState = before.type === 'file' ? before : { type: 'file' };
        return wantedFile(
          bytesOf(content),
          mode ?? like.mode ?? '0644',
          owner ?? like.owner ?? 'root',
          group ?? like.group ?? 'root',
        );
      });
    },

    /** Makes a directory, or gives one mode and owner; its parent must be there. Idempotent by (run, step); undo `restorePath`. */
    async makeDirectory({ with: raw, context }: CallInput) {
      const { path, ...state } = MakeDirectory.parse(raw);
      await changePath(hosts, context, path, () => ({ type: 'directory', ...state }));
    },

    /** Makes a symlink, or points one elsewhere, by rename. Idempotent by (run, step); undo `restorePath`. */
    async makeSymlink({ with: raw, context }: CallInput) {
      const { path, target } = MakeSymlink.parse(raw);
      await changePath(hosts, context, path, () => ({ type: 'symlink', target: bytesOf(target) }));
    },

    /** Removes a file, a link or an empty directory. Idempotent by (run, step); undo `restorePath`. */
    async removePath({ with: raw, context }: CallInput) {
      const { path } = Path.parse(raw);
      await changePath(hosts, context, path, () => ({ type: 'absent' }));
    },

    /** Undo of `writeFile`, `makeDirectory`, `makeSymlink` and `removePath`, from the journal. Idempotent by (run, step). */
    async restorePath({ with: raw, context }: CallInput) {
      await restorePath(hosts, context, Path.parse(raw).path);
    },

    /**
     * Writes guardia's block in a file of somebody else's, which must be there; the rest of it stays byte for byte, also what changes
     * meanwhile. Idempotent by (run, step); undo `restoreBlock`.
     */
    async writeBlock({ with: raw, context }: CallInput) {
      const { path, content: text, ...block } = WriteBlock.parse(raw);
      const target = targetOf(context);
      const content = bytesOf(text === '' || text.endsWith('\n') ? text : `${text}\n`);
      const now = await lookAtPath(hosts, target, path);
      if (now.type !== 'file' || now.content === undefined)
        throw failure('HostUnusable', `${path} on ${target.name} is no file: a block of ${block.name} has no place`, {
          host: target.name,
          step: context.step,
          remedy: 'Install what it belongs to first',
        });
      const there = readBlock(context, path, now.content, { path, ...block });
      const { entry } = await remember<BlockEntry>(hosts, context, async () => ({
        block: there ?? null,
        lineEndAdded: block.at === 'end' && now.content !== '' && !now.content?.endsWith('\n'),
        content,
      }));
      if (there === entry.content) return;
      if ((there ?? null) !== entry.block)
        throw thirdState(context, `the block of ${block.name} in ${path}`, 'Look at it, then start the run again');
      const changed = withBlock(now.content, block, entry.content);
      await putPath(hosts, target, path, withContent(asWanted(now, path), changed), now, {
        fence: context.fence,
        step: context.step,
      });
    },

    /** Undo of `writeBlock`: puts back the block that was there, or takes it out. Idempotent by (run, step). */
    async restoreBlock({ with: raw, context }: CallInput) {
      const { path, ...block } = Block.parse(raw);
      const entry = await recall<BlockEntry>(hosts, context);
      if (!entry) return;
      const target = targetOf(context);
      const now = await lookAtPath(hosts, target, path);
      // The file went with what it belongs to, and the block with it.
      if (now.type !== 'file' || now.content === undefined) return;
      const there = readBlock(context, path, now.content, { path, ...block });
      if ((there ?? null) === entry.block) return;
      if (there !== entry.content)
        throw thirdState(
          context,
          `the block of ${block.name} in ${path}`,
          'Decide what is right and put it there by hand',
        );
      const text =
        entry.block === null
          ? withoutBlock(now.content, block, entry.lineEndAdded)
          : withBlock(now.content, block, entry.block);
      await putPath(hosts, target, path, withContent(asWanted(now, path), text), now, {
        fence: context.fence,
        step: context.step,
      });
    },
  };
}

function withContent(file: WantedPath, content: string): WantedPath {
  return file.type === 'file' ? { ...file, content, sha256: sha256(content) } : file;
}
