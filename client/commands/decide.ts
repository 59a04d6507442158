import { z } from 'zod';
import { loadSystem } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import type { Decision, GateStatus } from '../../workflows/contracts/gate.js';
import type { RunStatus } from '../../workflows/contracts/run.js';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { decisionText } from '../decision-text.js';
import { approverHere, decide, openGate, planOf, signDecision, statusOf, tooLate } from '../decisions.js';
import { missingOptions, type Missing } from '../missing-options.js';
import { planText } from '../plan-text.js';
import { findRun } from '../runs.js';
import { signingKey } from '../signing.js';
import { withTemporal } from '../temporal-access.js';
import type { Terminal } from '../terminal.js';

/** How long a signed decision counts unless `--minutes` says otherwise. */
const GOOD_FOR_MINUTES = 60;

const options = z.object({
  id: z.string(),
  system: z.string().optional(),
  gate: z.string().optional(),
  as: z.string().optional(),
  key: z.string().optional(),
  unsigned: z.boolean().default(false),
  reason: z.string().optional(),
  typed: z.string().optional(),
  digest: z
    .string()
    .regex(/^[0-9a-f]{12,64}$/, '--digest takes the first 12 to 64 hex digits of the digest of the plan')
    .optional(),
  minutes: z.coerce.number().int().min(1).max(1440).optional(),
});
type Options = z.infer<typeof options>;

/** `guardia approve ID`. */
export const approve = command({ options, execute: (given, terminal) => say('approve', given, terminal) });
/** `guardia reject ID`. */
export const reject = command({ options, execute: (given, terminal) => say('reject', given, terminal) });

async function say(decision: 'approve' | 'reject', given: Options, terminal: Terminal): Promise<void> {
  await withTemporal(terminal.env, async (access) => {
    const run = await findRun(access, given.id, given.system, { toAnswer: true });
    if (!run.open) throw tooLate(run);
    const status = await statusOf(access, run);
    const gate = openGate(status, given.gate);
    const { plan, digest } = await planOf(access, run);
    if (digest !== gate.planDigest)
      throw new CommandFailure('refused', { message: 'the plan is just being made anew; look again' });
    if (given.digest !== undefined && !digest.startsWith(given.digest))
      throw new CommandFailure('refused', {
        message: `the plan is ${digest.slice(0, 12)}, not ${given.digest}; nothing was decided`,
        remedy: `Read it: guardia plan ${run.workflowId}`,
      });
    const here = given.as ?? approverHere(gate, terminal.env);
    const types = decision === 'approve' && gate.typedSystemName;
    const expiry = new Date(Date.now() + (given.minutes ?? GOOD_FOR_MINUTES) * 60_000).toISOString();
    // Undefined: that is up to who answers, and nobody has said that yet.
    const signs = (approver: string | undefined): boolean | undefined => {
      if (given.unsigned) return false;
      if (gate.signed || given.key !== undefined) return true;
      return approver === undefined ? undefined : hasKey(status, approver, terminal);
    };
    if (terminal.interactive) {
      const { colors } = terminal;
      const about = { namespace: access.target.namespace, signs: signs(here), expiry, colors };
      terminal.print(`${decisionText(status, gate, about)}\n\n${planText(plan, { digest, colors })}\n`);
    } else {
      const missing: Missing[] = [
        ...(here === undefined ? [{ name: '--as', placeholder: 'NAME', choices: gate.approvers }] : []),
        ...(given.reason === undefined ? [{ name: '--reason', placeholder: 'WHY' }] : []),
        ...(types && given.typed === undefined ? [{ name: '--typed', placeholder: 'SYSTEM' }] : []),
      ];
      if (missing.length > 0)
        throw missingOptions(missing, ['guardia', decision, run.workflowId, ...saidOptions(given)]);
    }
    const approver = here ?? (await chooseApprover(gate));
    const sign = signs(approver);
    if (!sign && !given.unsigned)
      terminal.warn(`the decision is not signed: the inventory has no signing key of ${approver}`);
    const reason = given.reason ?? (await askFor('Why?'));
    const typed = types ? (given.typed ?? (await askFor(`Type the name of the system to ${decision}:`))) : undefined;
    const plain: Decision = {
      ...{ gate: gate.id, planDigest: gate.planDigest, decision, approver, reason },
      ...(typed === undefined ? {} : { system: typed }),
    };
    const full = sign
      ? await signDecision(access, status, plain, { key: signingKey(given.key, terminal.env), expiry })
      : plain;
    const after = await decide(access, run, full);
    terminal.document({ workflowId: run.workflowId, gate: after });
    const agreed = after.decisions.filter((taken) => taken.decision === 'approve').length;
    terminal.print(
      after.state === 'open'
        ? `counted: ${agreed} of ${after.approvals}; ${gate.title} still waits`
        : `${gate.title}: ${after.state}`,
    );
    terminal.say(`\n  watch:   guardia watch ${run.workflowId}`);
  });
}

/** Without a key in the inventory a signature could not be verified; where it cannot be read here, the run decides. */
function hasKey(status: RunStatus, approver: string, terminal: Terminal): boolean {
  try {
    const { system } = loadSystem(status.system, inventoryLocations(terminal.env));
    return typeof system.approvers[approver]?.signingKey === 'string';
  } catch {
    return true;
  }
}

/** The options as they were given. */
const saidOptions = ({ gate, as, key, unsigned, reason, typed, digest, minutes }: Options): string[] =>
  Object.entries({ gate, as, key, reason, typed, digest, minutes })
    .flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]))
    .concat(unsigned ? ['--unsigned'] : []);

async function chooseApprover(gate: GateStatus): Promise<string> {
  const { select } = await import('@inquirer/prompts');
  return select({ message: 'Who are you?', choices: gate.approvers.map((value) => ({ value, name: value })) });
}

async function askFor(message: string): Promise<string> {
  const { input } = await import('@inquirer/prompts');
  return input({ message, validate: (text) => text.trim() !== '' || 'say it in a few words' });
}
