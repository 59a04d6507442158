import { z } from 'zod';
import { NoticeEvent } from '../../workflows/contracts/notice.js';

/** What the watcher looks at, each by itself: one that fails leaves the others as they are. `looks` is the watcher itself. */
export const LookName = z.enum([
  'temporal',
  'lost runs',
  'refused runs',
  'parked runs',
  'overdue runs',
  'workers',
  'missed runs',
  'looks',
]);
export type LookName = z.infer<typeof LookName>;

/** Something that is wrong now, and that no run can tell by itself. */
export const Condition = z.object({
  key: z.string().describe('Names what is wrong and where; the same at every look for as long as it lasts'),
  event: NoticeEvent,
  system: z.string(),
  look: LookName,
  from: z.iso
    .datetime()
    .describe('Since when. With the key it names this occurrence, also for a watcher that has forgotten everything'),
  title: z.string(),
  text: z.string(),
  command: z.string().optional(),
  runbook: z.string().optional(),
  workflowId: z.string().optional(),
  runId: z.string().optional(),
  link: z.string().optional(),
});
export type Condition = z.infer<typeof Condition>;

/** What people are told when it is over. */
export function endOfCondition({ event, runbook, system }: Condition): string {
  switch (event) {
    case 'terminated':
    case 'timed out':
      return `A later ${runbook ?? 'run'} of ${system} or a repair has made it good, or it is too long ago to be followed any further.`;
    case 'refused':
      return `A later ${runbook ?? 'run'} of ${system} has ended well, or it is too long ago to be followed any further.`;
    case 'parked':
      return 'The worker can take it up again, or it has ended.';
    case 'overdue':
      return 'The run has ended, or no longer waits.';
    case 'missed':
      return 'A run has started since.';
    case 'no worker':
      return 'A worker asks for its tasks again, or no run needs one any more.';
    case 'no temporal':
      return 'Temporal answers again.';
    default:
      return 'It can be looked at again.';
  }
}
