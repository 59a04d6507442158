import { hostname } from 'node:os';
import { z } from 'zod';
import { RecoverChoice, recoverChoices, type Hold } from '../../workflows/contracts/hold.js';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { loginName, recover, statusOf } from '../decisions.js';
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
      const run = await findRun(access, id);
      const { holds } = await statusOf(access, run);
      if (holds.length === 0)
        throw new CommandFailure('refused', {
          message: `${run.workflowId} does not wait for a person: there is nothing to decide`,
          remedy: `Look at it: guardia watch ${run.workflowId}`,
        });
      const at = hold === undefined && holds.length > 1 ? await chooseHold(holds, terminal) : hold;
      const meant = holds.find((one) => one.id === at) ?? holds[0];
      const choice = decision ?? (await chooseDecision(meant, terminal));
      const why = reason ?? (await askWhy(terminal));
      const taken = await recover(access, run, {
        ...(at === undefined ? {} : { hold: at }),
        decision: choice,
        reason: why,
        by: by ?? `${loginName() ?? 'unknown'}@${hostname()}`,
      });
      terminal.say(`${taken.decision} at "${taken.title}": ${recoverChoices[taken.decision]}`);
      if (follow) return followRun(access, run, terminal);
      terminal.document({ workflowId: run.workflowId, runId: run.runId, taken });
      return 0;
    });
  },
});

async function chooseHold(holds: readonly Hold[], terminal: Terminal): Promise<string> {
  if (!terminal.interactive)
    throw new CommandFailure('usage', {
      message: `the run holds at ${holds.length} places: --hold is missing`,
      remedy: `One of: ${holds.map(({ id }) => id).join(', ')}`,
    });
  const { select } = await import('@inquirer/prompts');
  return select({
    message: 'Where?',
    choices: holds.map(({ id, title, on, reason }) => ({ value: id, name: `${title} on ${on}: ${reason}` })),
  });
}

async function chooseDecision(hold: Hold | undefined, terminal: Terminal): Promise<RecoverChoice> {
  const choices = hold?.choices ?? [];
  if (!terminal.interactive)
    throw new CommandFailure('usage', {
      message: 'DECISION is missing',
      remedy: `One of: ${choices.join(', ')}`,
    });
  terminal.print([`${hold?.title} on ${hold?.on}: ${hold?.reason}`, ...(hold?.atStake ?? [])].join('\n'));
  const { select } = await import('@inquirer/prompts');
  return select({
    message: 'What now?',
    choices: choices.map((value) => ({ value, name: `${value}: ${recoverChoices[value]}` })),
  });
}

async function askWhy(terminal: Terminal): Promise<string> {
  if (!terminal.interactive) throw new CommandFailure('usage', { message: '--reason is missing' });
  const { input } = await import('@inquirer/prompts');
  return input({ message: 'Why?', validate: (text) => text.trim() !== '' || 'say it in a few words' });
}
