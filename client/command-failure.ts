import type { commandExitCodes, EndState } from '../workflows/contracts/run.js';

/** What an exit code stands for: an end of a run, or an end of the command itself. */
export type ExitReason = EndState | keyof typeof commandExitCodes;

export interface FailureText {
  /** What happened, where; one sentence or a few lines. */
  message: string;
  /** What the operator can do. */
  remedy?: string | undefined;
}

/** A command cannot do what it was asked for, for a reason that the operator can act on. `reason` picks the exit code. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly reason: ExitReason;
  readonly remedy: string | undefined;

  constructor(reason: ExitReason, text: FailureText, options?: ErrorOptions) {
    super(text.message, options);
    this.reason = reason;
    this.remedy = text.remedy;
  }
}
