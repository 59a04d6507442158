import { BackupInput } from '../contracts/backup.js';
import { SYSTEM_LANE } from '../contracts/names.js';
import type { Stage } from '../contracts/plan.js';
import type { System } from '../contracts/system.js';
import { unsetNeeded } from '../contracts/unset.js';
import { backupPlanner } from '../backup/plan.js';
import { runbook } from './runbook.js';
import { afterwards } from './stages.js';

/**
 * The configuration as a change has left it, saved: what fails of it takes nothing back. Where the inventory says not where to, only a note. Pure.
 */
export function recoveryPointAfter(system: System): { stages: Stage[]; notes: string[] } {
  const input = { system: system.system, only: 'configuration' as const };
  const open = unsetNeeded(system, backupPlanner.needs(BackupInput.parse(input), system));
  if (open.length > 0)
    return {
      stages: [],
      notes: [
        `No recovery point of the configuration is made afterwards: ${open.map(({ path }) => path).join(', ')} of the inventory ${open.length === 1 ? 'is' : 'are'} not filled in.`,
      ],
    };
  return {
    stages: afterwards('recovery point of the configuration', [SYSTEM_LANE], () => [
      runbook('backup', input, {
        id: 'recovery-point-after',
        title: 'back up the configuration as it is now',
        why: 'after each change (L944)',
      }),
    ]),
    notes: [],
  };
}
