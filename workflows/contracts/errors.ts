import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';

/**
 * Every failure that guardia raises on purpose: its type, whether trying again can help, and what it means.
 * `retry: false` ends the step at once; `retry: true` is tried again within the bounds of the activity.
 */
export const failures = {
  InvalidInput: { retry: false, means: 'the input of the run is wrong; nothing was started' },
  UnknownSystem: { retry: false, means: 'the inventory has no such system' },
  InvalidInventory: { retry: false, means: 'the inventory has mistakes' },
  UnsetValue: { retry: false, means: 'the run needs a value of the inventory that is not filled in' },
  InvalidPlan: { retry: false, means: 'the plan cannot be run as it is' },
  ApprovalRejected: { retry: false, means: 'somebody who was asked said no' },
  NobodyMayDecide: { retry: false, means: 'fewer people may decide than have to agree' },
  ApprovalTimedOut: { retry: false, means: 'nobody who was asked answered in time' },
  DecisionRefused: { retry: false, means: 'a decision does not count: the reason says why' },
  LeftBehind: { retry: false, means: 'a run that was terminated left changes behind that must be seen to first' },
  HostLocked: { retry: false, means: 'another run holds the system' },
  HostUnreachable: { retry: true, means: 'no connection to the host' },
  HostKeyRefused: { retry: false, means: 'the host showed a key that is not in the inventory' },
  HostLoginRefused: { retry: false, means: 'the host refused the login' },
  SudoMissing: { retry: false, means: 'the login user may not become root without a password' },
  HostStorageFull: { retry: false, means: "no space left in guardia's state directory on the host" },
  HostUnusable: { retry: false, means: 'the host lacks something that guardia needs' },
  Fenced: { retry: false, means: 'a newer run has taken the host over' },
  CommandFailed: { retry: false, means: 'a command ended with an error' },
  CommandTimedOut: { retry: false, means: 'a command did not end in its time' },
  OutputTooLarge: { retry: false, means: 'a command printed more than can be read as a result' },
  JobFailed: { retry: false, means: 'a job ended with an error' },
  JobTimedOut: { retry: false, means: 'a job did not end in its time and was stopped' },
  JobLost: { retry: false, means: 'a job vanished without leaving a status' },
  JobCancelled: { retry: false, means: 'a job was stopped on request' },
  SecretUnavailable: { retry: false, means: 'a secret cannot be resolved on the worker' },
  ObjectStoreUnavailable: { retry: true, means: 'the object store does not answer' },
  ObjectStoreRefused: { retry: false, means: 'the object store refused the request' },
  ObjectConflict: { retry: false, means: 'another object is already stored under this key' },
  AnomalousBackup: { retry: false, means: 'the backup does not look like the ones before it' },
  BackupDamaged: { retry: false, means: 'the stored backup does not read back' },
  Unhealthy: { retry: false, means: 'a health check found what is critical' },
  VerificationFailed: { retry: false, means: 'the outcome could not be seen from outside' },
  VerificationImpossible: { retry: true, means: 'the outcome could not be checked' },
  ThirdState: { retry: false, means: 'what a step changed was changed by somebody else, and is left as it is' },
  AccessLost: { retry: false, means: 'a change cut the login off; the host has put the old state back by itself' },
  AccessAtRisk: { retry: false, means: 'a change would cut the login off, and was not made' },
  UnknownRelease: { retry: false, means: 'there is no such commit, archive or release' },
  NoServerLeft: { retry: false, means: 'taking a server out of the balancer would leave nobody to answer' },
  ChildCancelled: {
    retry: false,
    means: 'a runbook that ran as a step was cancelled, and not the run that it is a step of',
  },
  DataAtStake: { retry: false, means: 'the way back would lose data, and no person has decided that' },
} as const;
export type FailureType = keyof typeof failures;

export const FailureDetails = z.object({
  host: z.string().optional(),
  step: z.string().optional(),
  remedy: z.string().optional(),
  output: z.string().optional(),
});
export type FailureDetails = z.infer<typeof FailureDetails> & Record<string, unknown>;

/**
 * A typed failure that a person can act on. `message` says what happened and where; `remedy` what to do.
 * Details are plain JSON and are stored in the history: never put a secret or an unbounded output in them.
 */
export function failure(
  type: FailureType,
  message: string,
  details: FailureDetails = {},
  cause?: Error,
): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    message: details.remedy ? `${message}. ${details.remedy}` : message,
    nonRetryable: !failures[type].retry,
    details: [details],
    ...(cause ? { cause } : {}),
  });
}

/** What an error says, and its remedy apart: `failure` puts it at the end of the message, too. Pure. */
export function splitRemedy(error: unknown): { message: string; remedy?: string } {
  const message = error instanceof Error ? error.message : String(error);
  const details = error instanceof ApplicationFailure ? FailureDetails.safeParse(error.details?.[0]).data : undefined;
  const remedy = details?.remedy;
  if (remedy === undefined) return { message };
  return { message: message.endsWith(`. ${remedy}`) ? message.slice(0, -remedy.length - 2) : message, remedy };
}

export function isFailure(error: unknown, ...types: FailureType[]): error is ApplicationFailure {
  return error instanceof ApplicationFailure && types.includes(error.type as FailureType);
}
