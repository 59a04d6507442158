import { z } from 'zod';
import { RecoverChoice, choiceText, type Hold } from '../../workflows/contracts/hold.js';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { recover, statusOf, tooLate } from '../decisions.js';
import { missingOptions, type Missing } from '../missing-options.js';
import { requesterHere } from '../requester.js';
import { followRun } from '../run-following.js';
import { findRun } from '../runs.js';
import { withTemporal } from '../temporal-access.js';
import type { Terminal } from '../terminal.js';

/** `guardia recover ID DECISION`. */
export const recoverCommand = command({
  options: z.object({
    id: z.string(),
    decision: RecoverChoice.optional(),
    reason: z.string().optional(),
    hold: z.string().optional(),
    by: z.string().optional(),
    follow: z.boolean().default(true),
  }),
  async execute({ id, decision, reason, hold, by, follow }, terminal) {
    return withTemporal(terminal.env, async (access) => {
      const run = await findRun(access, id, undefined, { toAnswer: true });
      if (!run.open) throw tooLate(run);
      const { holds, phase } = await statusOf(access, run);
      if (phase === 'ended') throw tooLate(run);
      if (holds.length === 0)
        throw new CommandFailure('refused', {
          message: `${run.workflowId} does not wait for a person: there is nothing to decide`,
          remedy: `Look at it: guardia watch ${run.workflowId}`,
        });
      if (hold !== undefined && !holds.some(({ id: one }) => one === hold))
        throw new CommandFailure('refused', {
          message: `${run.workflowId} does not hold at "${hold}"; it holds at: ${holds.map(({ id: one }) => one).join(', ')}`,
          remedy: `Look at it: guardia watch ${run.workflowId}`,
        });
      const several = hold === undefined && holds.length > 1;
      if (!terminal.interactive) {
        const meant = several ? holds : holds.filter(({ id: one }) => hold === undefined || one === hold);
        const choices = [...new Set(meant.flatMap((one) => one.choices))];
        const missing: Missing[] = [
          ...(decision === undefined ? [{ name: 'DECISION', placeholder: 'DECISION', choices }] : []),
          ...(several ? [{ name: '--hold', placeholder: 'STEP', choices: holds.map((one) => one.id) }] : []),
          ...(reason === undefined ? [{ name: '--reason', placeholder: 'WHY' }] : []),
        ];
        // With the only place named, what is typed later cannot mean another one.
        const said = Object.entries({ hold: hold ?? (several ? undefined : holds[0]?.id), reason, by }).flatMap(
          ([name, value]) => (value === undefined ? [] : [`--${name}`, value]),
        );
        if (missing.length > 0)
          throw missingOptions(missing, [
            ...['guardia', 'recover', run.workflowId],
            ...(decision === undefined ? [] : [decision]),
            ...said,
          ]);
      }
      const at = hold ?? (several ? await chooseHold(holds) : undefined);
      const meant = holds.find(({ id: one }) => at === undefined || one === at) as Hold;
      const choice = decision ?? (await chooseDecision(meant, terminal));
      const why = reason ?? (await askWhy());
      // Named always: somebody else may have answered meanwhile, and the run hold at another place.
      const taken = await recover(access, run, {
        hold: meant.id,
        decision: choice,
        reason: why,
        by: by ?? requesterHere(terminal.env),
      });
      terminal.say(`${taken.decision} at "${taken.title}": ${choiceText(taken.decision, taken)}`);
      if (follow) return followRun(access, run, terminal);
      terminal.document({ workflowId: run.workflowId, runId: run.runId, taken });
      return 0;
    });
  },
});

async function chooseHold(holds: readonly Hold[]): Promise<string> {
  const { select } = await import('@inquirer/prompts');
  return select({
    message: 'Where?',
    choices: holds.map(({ id, title, on, reason }) => ({ value: id, name: `${title} on ${on}: ${reason}` })),
  });
}

async function chooseDecision(hold: Hold, terminal: Terminal): Promise<RecoverChoice> {
  terminal.print([`${hold.title} on ${hold.on}: ${hold.reason}`, ...hold.atStake].join('\n'));
  const { select } = await import('@inquirer/prompts');
  return select({
    message: 'What now?',
    choices: hold.choices.map((value) => ({ value, name: `${value}: ${choiceText(value, hold)}` })),
  });
}

async function askWhy(): Promise<string> {
  const { input } = await import('@inquirer/prompts');
  return input({ message: 'Why?', validate: (text) => text.trim() !== '' || 'say it in a few words' });
}
