import { z } from 'zod';
import { readInventory, type Inventory } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { command } from '../command.js';
import { endInColor } from '../run-text.js';
import { listLocks, listRuns, type RunSummary } from '../runs.js';
import { runPage, withTemporal } from '../temporal-access.js';
import { textTable } from '../text-table.js';
import { ageText, durationText } from '../text-units.js';
import type { Terminal } from '../terminal.js';
import { withoutWorker, workersSeen } from '../workers-seen.js';

/** `guardia status [SYSTEM]`. Needs no worker. */
export const status = command({
  options: z.object({ system: z.string().optional() }),
  async execute({ system }, terminal) {
    const known = systemsHere(terminal, system);
    return withTemporal(terminal.env, async (access) => {
      const [open, locks, queues] = await Promise.all([
        listRuns(access, { system, open: true, limit: 200 }),
        listLocks(access),
        workersSeen(access, ['main', ...known.sites]),
      ]);
      const pairs = known.names.flatMap((name) => Object.keys(runbooks).map((runbook) => ({ system: name, runbook })));
      const ended = await Promise.all(
        pairs.map((pair) => listRuns(access, { ...pair, open: false, dryRuns: false, steps: false, limit: 1 })),
      );
      const last = ended.flat();
      const held = locks.filter((lock) => system === undefined || lock.system === system);
      const nobody = withoutWorker(queues);
      terminal.document({
        temporal: { address: access.target.address, namespace: access.target.namespace, webUi: access.webUi ?? null },
        workers: queues,
        open,
        locks: held,
        last,
      });

      const { colors } = terminal;
      const now = Date.now();
      const waits = (run: RunSummary): string => (run.waitingFor === undefined ? '' : `waits: ${run.waitingFor}`);
      terminal.print(
        `Temporal  ${access.target.address}, namespace ${access.target.namespace}${access.webUi === undefined ? '' : `, Web UI ${access.webUi}`}`,
      );
      const workers = new Set(
        queues.flatMap((queue) => queue.workers.map(({ identity }) => identity.replace(/^[^@]*@/, ''))),
      );
      terminal.print(`Workers   ${nobody === undefined ? [...workers].join(', ') : colors.red(nobody)}`);
      terminal.print(`\n${colors.bold('Open runs')}`);
      if (open.length === 0) terminal.print('  none');
      else
        terminal.print(
          textTable(
            open.map((run) => [
              run.workflowId,
              colors.cyan(run.phase ?? 'waiting for a worker'),
              durationText(now - Date.parse(run.startedAt)),
              run.requester ?? '',
              colors.yellow(waits(run)),
            ]),
            { indent: '  ' },
          ),
        );
      if (held.length > 0) {
        terminal.print(`\n${colors.bold('Locks')}`);
        terminal.print(
          textTable(
            held.map((lock) => [
              lock.host === undefined ? lock.system : `${lock.system}, host ${lock.host}`,
              `held by ${lock.workflowId ?? 'an unknown run'}`,
              ageText(lock.since, now),
            ]),
            { indent: '  ' },
          ),
        );
      }
      terminal.print(`\n${colors.bold('Last runs')}`);
      if (last.length === 0) terminal.print('  none that Temporal remembers');
      else
        terminal.print(
          textTable(
            last.map((run) => [
              `${run.runbook} of ${run.system}`,
              run.end === undefined ? '' : endInColor(run.end, colors),
              `${ageText(run.endedAt, now)} ago`,
              `took ${durationText(Date.parse(run.endedAt ?? '') - Date.parse(run.startedAt))}`,
              colors.dim(run.workflowId),
            ]),
            { indent: '  ' },
          ),
        );
      for (const run of open.filter(({ waitingFor }) => waitingFor !== undefined)) {
        const page = runPage(access, run);
        if (page !== undefined) terminal.say(`\n${run.workflowId}: ${page}`);
      }
    });
  },
});

/** The systems of this machine's inventory, or the one that was asked for, whether it is there or not. */
function systemsHere(terminal: Terminal, only: string | undefined): { names: string[]; sites: string[] } {
  const locations = inventoryLocations(terminal.env);
  let inventory: Inventory;
  try {
    inventory = readInventory(locations);
  } catch (error) {
    terminal.warn(`the inventory cannot be read: ${(error as Error).message}`);
    return { names: only === undefined ? [] : [only], sites: [] };
  }
  const names = only === undefined ? inventory.names : [only];
  const sites = names.flatMap((name) => {
    try {
      return Object.values(inventory.load(name).system.hosts).map(({ site }) => site);
    } catch {
      return [];
    }
  });
  return { names, sites };
}
