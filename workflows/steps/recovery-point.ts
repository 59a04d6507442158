import { BackupInput } from '../contracts/backup.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Stage } from '../contracts/plan.js';
import type { System } from '../contracts/system.js';
import { unsetNeeded } from '../contracts/unset.js';
import { backupPlanner } from '../backup/plan.js';
import { runbook } from './runbook.js';
import { afterwards } from './stages.js';

const inputOf = ({ system }: System) => ({ system, only: 'configuration' as const });

/** The configuration as a change has left it, saved: what fails of it takes nothing back. Pure. */
export const configurationSaved = (system: System): Stage[] =>
  afterwards('recovery point of the configuration', [SYSTEM_LANE], () => [
    runbook('backup', inputOf(system), {
      id: 'recovery-point-after',
      title: 'back up the configuration as it is now',
      why: 'after each change (L944)',
    }),
  ]);

/** The same for runs that do without: where the inventory does not say where to save it, only a note. Pure. */
export function recoveryPointAfter(system: System): { stages: Stage[]; notes: string[] } {
  const open = unsetNeeded(system, backupPlanner.needs(BackupInput.parse(inputOf(system)), system));
  if (open.length > 0)
    return {
      stages: [],
      notes: [
        `No recovery point of the configuration is made afterwards: ${open.map(({ path }) => path).join(', ')} of the inventory ${open.length === 1 ? 'is' : 'are'} not filled in.`,
      ],
    };
  return { stages: configurationSaved(system), notes: [] };
}
