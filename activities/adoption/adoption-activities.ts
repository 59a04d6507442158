import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { SeenAdoption, SeenCheckout } from '../../workflows/contracts/adopt.js';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { AccountName } from '../../workflows/contracts/files.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import { isUnitActive, UnitName } from '../../workflows/contracts/units.js';
import { targetOf } from '../activity-context.js';
import { wantedFile } from '../files/file-activities.js';
import { lookAtPath, putPath, type PathState } from '../files/paths.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';
import { observeUnits } from '../systemd/systemd-activities.js';
import { commentsBack, linesBack, linesInForce, linesTakenOver, linesToPutBack, withoutLines } from './cron-lines.js';

const script = readFileSync(new URL('./adoption.sh', import.meta.url), 'utf8');

const Commands = z.array(z.string().min(1)).min(1);
const ObserveAdoption = z.strictObject({
  checkouts: z.array(
    z.strictObject({
      name: z.string(),
      path: AbsolutePath,
      releases: AbsolutePath,
      writable: AbsolutePath,
      shared: z.array(z.strictObject({ path: z.string(), target: AbsolutePath })),
      leftBehind: z.array(z.string()).default([]),
      units: z.array(z.string()).default([]),
    }),
  ),
  cron: z.array(z.strictObject({ name: z.string(), user: AccountName, commands: Commands })),
});
const Relocate = z.strictObject({
  from: AbsolutePath,
  to: AbsolutePath,
  units: z.array(UnitName).default([]).describe('What writes there: stopped before anything is copied'),
});
const Cron = z.strictObject({ user: AccountName, commands: Commands });

interface RelocateEntry {
  /** Empty directories that stood at the goal, as a tar archive in base64; empty where there were none. */
  made: string;
}
interface CronEntry {
  /** Lines that the step turns, from comments or into some. */
  lines: string[];
  /** Those that were on the other side already; absent in journals of earlier versions. */
  before?: string[];
}

const crontab = (user: string): string => `/var/spool/cron/crontabs/${user}`;

export function createAdoptionActivities({ hosts }: { hosts: Hosts }) {
  const run = async (context: CallContext, args: string[], changes = false): Promise<string> => {
    try {
      const { stdout } = await hosts.run(
        targetOf(context),
        { argv: ['/bin/bash', '-c', script, 'adoption', ...args], timeoutSeconds: 120 },
        { signal: cancellationSignal(), ...(changes ? { fence: context.fence } : {}) },
      );
      return stdout;
    } catch (error) {
      if (!isFailure(error, 'CommandFailed') || !error.message.includes('ended with code 3')) throw error;
      throw thirdState(context, `what this step moves (${error.message})`, 'Look at both places and decide by hand');
    }
  };

  const checkout = async (
    context: CallContext,
    { path, releases, writable, shared, leftBehind, units }: z.infer<typeof ObserveAdoption>['checkouts'][number],
  ): Promise<SeenCheckout> => {
    const pairs = shared.flatMap((one) => [one.path, one.target]);
    const lines = (await run(context, ['checkout', path, releases, writable, ...pairs, '--', ...leftBehind]))
      .split('\n')
      .map((line) => line.split(' '));
    const one = (key: string): string[] => lines.find(([name]) => name === key)?.slice(1) ?? [];
    const all = (key: string): string[] => lines.filter(([name]) => name === key).map(([, ...rest]) => rest.join(' '));
    const [owner = '', group = ''] = one('owner');
    const naming = units.length === 0 ? '' : await run(context, ['units', writable, ...units]);
    return {
      kind: one('kind')[0] as SeenCheckout['kind'],
      owner,
      group,
      link: one('link').join(' '),
      commit: one('commit')[0] ?? '',
      ...(one('git-says').length === 0 ? {} : { gitSays: one('git-says').join(' ') }),
      elsewhere: all('elsewhere'),
      mounts: all('mount'),
      unnamed: all('unnamed'),
      shared: Object.fromEntries(
        lines
          .filter(([name]) => name === 'shared')
          .map(([, inCheckout, target, ...rest]) => {
            const [inside = '', leads] = rest.join(' ').split('\t');
            return [
              inside,
              {
                inCheckout,
                ...(inCheckout === 'link' ? { leads } : {}),
                target: target === 'link' ? 'taken' : target,
              } as SeenCheckout['shared'][string],
            ];
          }),
      ),
      releases: one('releases')[0] as SeenCheckout['releases'],
      writable: one('writable')[0] as SeenCheckout['writable'],
      running: Object.entries(await observeUnits(hosts, context, units)).flatMap(([unit, seen]) =>
        isUnitActive(seen) ? [unit] : [],
      ),
      naming: naming.split('\n').filter((line) => line !== ''),
    };
  };

  const putCrontab = async (context: CallContext, user: string, now: PathState, text: string): Promise<void> => {
    const { mode = '0600', owner = user, group = 'crontab' } = now;
    if (now.type !== 'file' || text === now.content) return;
    await putPath(hosts, targetOf(context), crontab(user), wantedFile(text, mode, owner, group), now, {
      fence: context.fence,
      step: context.step,
    });
  };

  return {
    /** What was set up by hand on a host: checkouts, lines of crontabs, compose projects. Reads only; no line of a crontab is in the answer. */
    async observeAdoption({ with: raw, context }: CallInput): Promise<SeenAdoption> {
      const asked = ObserveAdoption.parse(raw);
      const checkouts: SeenAdoption['checkouts'] = {};
      for (const one of asked.checkouts) checkouts[one.name] = await checkout(context, one);
      const cron: SeenAdoption['cron'] = {};
      for (const { name, user, commands } of asked.cron) {
        const { content = '' } = await lookAtPath(hosts, targetOf(context), crontab(user));
        cron[name] = {
          inForce: linesInForce(content, commands).length,
          takenOver: linesToPutBack(content, commands).length,
        };
      }
      const projects = (await run(context, ['projects']))
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => {
          const space = line.indexOf(' ');
          return { project: line.slice(0, space), directory: line.slice(space + 1) };
        });
      return { checkouts, cron, projects };
    },

    /**
     * Moves a file or directory to another place of its file system by rename and leaves a link: nothing is copied, so nothing can be lost
     * half way; where the file system cannot rename it, its units are stopped, and a copy is compared before the original goes. Empty directories at the
     * goal give way. Throws `ThirdState` for another file system, and where the original was written to since it was copied. Idempotent by (run, step);
     * undo `returnPath`.
     */
    async relocatePath({ with: raw, context }: CallInput) {
      const { from, to, units } = Relocate.parse(raw);
      const target = targetOf(context);
      await remember<RelocateEntry>(hosts, context, async () => {
        const [state, goal] = (await run(context, ['where', from, to])).trim().split(' ');
        if (state === 'absent' || state === 'link')
          throw failure(
            'HostUnusable',
            `${from} on ${target.name} is ${state === 'link' ? 'a link already' : 'not there'}`,
            {
              host: target.name,
              step: context.step,
            },
          );
        const made =
          goal === 'empty'
            ? (
                await hosts.run(target, {
                  argv: ['/bin/bash', '-c', 'set -o pipefail; tar -c -p -P "$1" | base64 -w0', 'save', to],
                })
              ).stdout
            : '';
        return { made };
      });
      await run(context, ['relocate', from, to, ...units], true);
    },

    /**
     * Undo of `relocatePath`: the same file or directory, with all that was written into it since, is back in its old place. Throws
     * `ThirdState` where something else stands in either place. Idempotent by (run, step).
     */
    async returnPath({ with: raw, context }: CallInput) {
      const { from, to, units } = Relocate.parse(raw);
      const entry = await recall<RelocateEntry>(hosts, context);
      if (!entry) return;
      await run(context, ['return', from, to, ...units], true);
      if (entry.made !== '')
        await hosts.run(
          targetOf(context),
          { argv: ['tar', '-x', '-p', '-P'], stdin: Buffer.from(entry.made, 'base64') },
          { fence: context.fence },
        );
    },

    /**
     * The way back as a step of its own: what a link leads to takes the link's place. Idempotent by (run, step); undo `relocateAgain`.
     */
    async putBackPath({ with: raw, context }: CallInput) {
      const { from, to, units } = Relocate.parse(raw);
      await remember<RelocateEntry>(hosts, context, async () => ({ made: '' }));
      await run(context, ['return', from, to, ...units], true);
    },

    /** Undo of `putBackPath`: it is a link again. Idempotent by (run, step). */
    async relocateAgain({ with: raw, context }: CallInput) {
      const { from, to, units } = Relocate.parse(raw);
      if (await recall<RelocateEntry>(hosts, context)) await run(context, ['relocate', from, to, ...units], true);
    },

    /**
     * Puts lines in force again that guardia has turned into comments, but none that somebody has added again by hand. Idempotent by (run, step); undo
     * `disableLinesAgain`.
     */
    async enableCronLines({ with: raw, context }: CallInput) {
      const { user, commands } = Cron.parse(raw);
      const now = await lookAtPath(hosts, targetOf(context), crontab(user));
      const text = now.content ?? '';
      const { entry } = await remember<CronEntry>(hosts, context, async () => ({
        lines: linesToPutBack(text, commands),
        before: linesInForce(text, commands),
      }));
      await putCrontab(context, user, now, linesBack(text, entry.lines, []));
    },

    /** Undo of `enableCronLines`: its lines are comments again. Idempotent by (run, step). */
    async disableLinesAgain({ with: raw, context }: CallInput) {
      const { user } = Cron.parse(raw);
      const entry = await recall<CronEntry>(hosts, context);
      if (!entry || entry.lines.length === 0) return;
      const now = await lookAtPath(hosts, targetOf(context), crontab(user));
      await putCrontab(context, user, now, commentsBack(now.content ?? '', entry.lines, entry.before));
    },

    /**
     * Turns lines of a crontab that hold one of the commands into comments; every other byte stays. Idempotent by (run, step); undo
     * `restoreCronLines`.
     */
    async disableCronLines({ with: raw, context }: CallInput) {
      const { user, commands } = Cron.parse(raw);
      const target = targetOf(context);
      const now = await lookAtPath(hosts, target, crontab(user));
      const text = now.content ?? '';
      await remember<CronEntry>(hosts, context, async () => ({
        lines: linesInForce(text, commands),
        before: linesTakenOver(text, commands),
      }));
      await putCrontab(context, user, now, withoutLines(text, commands));
    },

    /** Undo of `disableCronLines`: its lines are in force again, whatever else was changed meanwhile. Idempotent by (run, step). */
    async restoreCronLines({ with: raw, context }: CallInput) {
      const { user } = Cron.parse(raw);
      const entry = await recall<CronEntry>(hosts, context);
      if (!entry || entry.lines.length === 0) return;
      const target = targetOf(context);
      const now = await lookAtPath(hosts, target, crontab(user));
      const text = now.content ?? '';
      const changed = linesBack(text, entry.lines, entry.before);
      const gone = entry.lines.filter((line) => !changed.split('\n').includes(line));
      if (gone.length > 0)
        throw thirdState(
          context,
          `the crontab of ${user}, which lacks ${gone.length} line(s),`,
          `Put them back by hand: the journal of this run on the host holds them`,
        );
      await putCrontab(context, user, now, changed);
    },
  };
}
