import type { Step } from '../contracts/plan.js';
import type { RunbookName } from '../contracts/runbooks.js';
import { call } from './call.js';

/** A whole runbook as one step: a child run under the locks and the fence of this one. What it does it undoes by itself. */
export function runbook(
  name: RunbookName,
  input: { system: string } & Record<string, unknown>,
  { id = name, title, why }: { id?: string; title: string; why: string },
): Step {
  return {
    id,
    title,
    why,
    do: call('runRunbook', { runbook: name, input }),
    undo: { none: 'it undoes by itself what it does' },
  };
}
