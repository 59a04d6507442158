import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { splitRemedy } from '../workflows/contracts/errors.js';
import { commandExitCodes, EndState, endStates } from '../workflows/contracts/run.js';
import { CommandFailure, type ExitReason } from './command-failure.js';

export interface ExitCodeRow {
  exitCode: number;
  name: ExitReason;
  means: string;
}

/** Every exit code of the command, lowest first. Ends of a run that share one stand side by side. */
export function exitCodeTable(): ExitCodeRow[] {
  const rows = Object.entries({ ...endStates, ...commandExitCodes }).map(([name, { exitCode, means }]) => ({
    exitCode,
    name: name as ExitReason,
    means,
  }));
  return rows.sort((a, b) => a.exitCode - b.exitCode);
}

export function exitCodeFor(reason: ExitReason): number {
  return { ...endStates, ...commandExitCodes }[reason].exitCode;
}

/** An error as the command tells it: the exit code's name, what happened, what to do. */
export interface ExplainedError {
  reason: ExitReason;
  message: string;
  remedy?: string | undefined;
}

/** Typed failures of activities and the inventory that the command meets when it calls them itself. */
const reasons: Readonly<Record<string, ExitReason>> = {
  InvalidInput: 'usage',
  UnknownSystem: 'not found',
  InvalidInventory: 'refused',
  UnsetValue: 'refused',
  DecisionRefused: 'refused',
  SecretUnavailable: 'refused',
  HostUnreachable: 'unreachable',
  ObjectStoreUnavailable: 'unreachable',
  ObjectStoreRefused: 'unreachable',
  StoreUnavailable: 'unreachable',
  StoreRefused: 'unreachable',
  StoreMisconfigured: 'unreachable',
};

/** Any error in words for the operator. What guardia did not foresee is `internal`. */
export function explain(error: unknown): ExplainedError {
  if (error instanceof CommandFailure) return { reason: error.reason, message: error.message, remedy: error.remedy };
  // What the run itself says to an update.
  if (error instanceof WorkflowUpdateFailedError && error.cause) return explain(error.cause);
  if (error instanceof ApplicationFailure) {
    const type = error.type ?? '';
    const reason = reasons[type] ?? (EndState.safeParse(type).success ? (type as EndState) : 'failed');
    return { reason, ...splitRemedy(error) };
  }
  const name = error instanceof Error ? error.name : '';
  if (name === 'TemporalConnectionError')
    return { reason: 'unreachable', ...splitAtSemicolon((error as Error).message) };
  if (name === 'WorkflowNotFoundError')
    return { reason: 'not found', message: `Temporal has no such run: ${(error as Error).message}` };
  // Ctrl-C and Ctrl-D at a prompt.
  if (name === 'ExitPromptError' || name === 'AbortPromptError')
    return { reason: 'usage', message: 'stopped at the question; nothing was started or decided' };
  return {
    reason: 'internal',
    message: `a mistake in guardia: ${error instanceof Error ? error.message : String(error)}`,
    remedy: 'GUARDIA_DEBUG=1 shows where. Please report it',
  };
}

/** `what; what to do` in one sentence. */
function splitAtSemicolon(text: string): { message: string; remedy?: string } {
  const at = text.lastIndexOf('; ');
  return at < 0 ? { message: text } : { message: text.slice(0, at), remedy: text.slice(at + 2) };
}
