import { z } from 'zod';
import { command } from '../command.js';
import { listLocks, listRuns, type HeldLock } from '../runs.js';
import { withTemporal } from '../temporal-access.js';
import { textTable } from '../text-table.js';
import { ageText } from '../text-units.js';

/** `guardia locks [SYSTEM]`. Needs no worker. */
export const locks = command({
  options: z.object({ system: z.string().optional() }),
  async execute({ system }, terminal) {
    await withTemporal(terminal.env, async (access) => {
      const [held, open] = await Promise.all([listLocks(access), listRuns(access, { system, open: true, limit: 200 })]);
      const locks = held.filter((lock) => system === undefined || lock.system === system);
      const waiting = open.filter(({ phase }) => phase === 'waiting for the lock');
      terminal.document({ locks, waiting });
      const now = Date.now();
      const { colors } = terminal;
      const doing = ({ workflowId }: HeldLock): string => {
        const run = open.find((one) => one.workflowId === workflowId);
        return run === undefined
          ? ''
          : `${run.phase ?? ''}${run.waitingFor === undefined ? '' : `: ${run.waitingFor}`}`;
      };
      if (locks.length === 0) terminal.print('Nothing is held.');
      else
        terminal.print(
          textTable(
            locks.map((lock) => [
              lock.host === undefined ? lock.system : `${lock.system}, host ${lock.host}`,
              lock.workflowId ?? 'an unknown run',
              ageText(lock.since, now),
              colors.cyan(doing(lock)),
            ]),
            { head: ['HELD', 'BY', 'FOR', 'WHICH IS'] },
          ),
        );
      for (const run of waiting)
        terminal.print(
          `${run.workflowId}, started ${ageText(run.startedAt, now)} ago, waits: ${colors.yellow(run.waitingFor ?? 'for a lock')}`,
        );
    });
  },
});
