import { stripVTControlCharacters } from 'node:util';
import type pico from 'picocolors';
import type { GateStatus } from '../workflows/contracts/gate.js';
import type { RunStatus } from '../workflows/contracts/run.js';

type Colors = ReturnType<typeof pico.createColors>;

/**
 * What somebody decides about, beside the plan: the run and the gate, who asked for it and why, what was decided so far, and whether the decision is
 * signed (undefined: where the inventory has a key of who answers), over what, as in `signedText`, and until when that counts. What other people wrote stays
 * on its line. Pure.
 */
export function decisionText(
  run: Pick<RunStatus, 'workflowId' | 'runId' | 'requester' | 'reason'>,
  gate: GateStatus,
  options: { namespace: string; signs: boolean | undefined; expiry: string; colors: Colors },
): string {
  const { namespace, signs, expiry, colors } = options;
  const { decisions, approvals, oneMore } = gate;
  const agreed = decisions.filter(({ decision }) => decision === 'approve').length;
  const line = (name: string, text: string): string => `${colors.dim(name.padEnd(10))} ${onOneLine(text)}`;
  return [
    line('run', `${run.workflowId}, run id ${run.runId}, namespace ${namespace}`),
    line('asked by', `${run.requester}${run.reason === undefined ? ', who gave no reason' : `: ${run.reason}`}`),
    ...(oneMore === undefined
      ? []
      : [line('', `who asked is not proved (${oneMore}): one more than usual has to agree`)]),
    line('gate', `${gate.id}, "${gate.title}", open until ${gate.closesAt}, then ${gate.onTimeout}`),
    line('decided', `${agreed} of ${approvals} have agreed; who may: ${gate.approvers.join(', ')}`),
    ...decisions.map(({ approver, decision, at, signed, reason }) =>
      line('', `${approver}: ${decision}, ${at}, ${signed ? 'signed' : 'not signed'}: ${reason}`),
    ),
    line(
      'signature',
      signs === false
        ? 'none'
        : `${signs ? '' : 'where the inventory has a key of yours: '}over this run, gate ${gate.id}, the plan below and your answer, not over who asked and what others decided; counts until ${expiry}`,
    ),
  ].join('\n');
}

/** Without what moves the cursor, turns the writing round or begins a line. */
const onOneLine = (text: string): string =>
  stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ');
