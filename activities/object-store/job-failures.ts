import type { ApplicationFailure } from '@temporalio/common';
import { failure, type FailureType, isFailure } from '../../workflows/contracts/errors.js';

interface Meaning {
  /** Exit status of the script, as in `job-frame.sh`. */
  status: number;
  type: FailureType;
  /** What was being done when it went wrong; the script's own message follows. */
  what: string;
  remedy: string;
}

/** Every way in which a job that moves an artifact can end badly. */
export const jobFailures = {
  'bad-arguments': {
    status: 64,
    type: 'InvalidPlan',
    what: 'the job was given wrong arguments',
    remedy: 'This is a mistake in guardia',
  },
  'tool-missing': {
    status: 69,
    type: 'HostUnusable',
    what: 'a program is missing',
    remedy: 'Install it; `guardia doctor` lists everything that a host needs',
  },
  'scratch-full': {
    status: 70,
    type: 'HostStorageFull',
    what: 'no space in memory for the parts',
    remedy: 'Free memory on the host, or raise the size of its tmpfs',
  },
  'database-unreachable': {
    status: 71,
    type: 'CommandFailed',
    what: 'the database server refuses the login or does not answer',
    remedy: 'Check that the server is up, and port, user and password in the inventory',
  },
  'version-mismatch': {
    status: 72,
    type: 'HostUnusable',
    what: 'the server has another version than the inventory says',
    remedy: 'Correct the version in the inventory',
  },
  'database-busy': {
    status: 73,
    type: 'CommandFailed',
    what: 'the database did not let the dump begin',
    remedy: 'Look for long transactions and schema changes (pg_stat_activity) and try again',
  },
  'dump-failed': {
    status: 74,
    type: 'CommandFailed',
    what: 'the dump broke off',
    remedy: "Look at the server's log at that time and try again",
  },
  'contents-unreadable': {
    status: 75,
    type: 'CommandFailed',
    what: 'what pg_dump wrote is not an archive',
    remedy: "Look at the server's log and the job's log",
  },
  'compression-failed': {
    status: 76,
    type: 'CommandFailed',
    what: 'the compression broke off',
    remedy: 'Look for a lack of memory on the host and try again',
  },
  'encryption-failed': {
    status: 77,
    type: 'CommandFailed',
    what: 'the encryption broke off',
    remedy: 'Check the age recipients in the inventory',
  },
  'store-refused': {
    status: 78,
    type: 'ObjectStoreRefused',
    what: 'the object store refused the request',
    remedy: "Check the host's access key and its policy, and the host's clock",
  },
  'store-unavailable': {
    status: 79,
    type: 'ObjectStoreUnavailable',
    what: 'the object store could not be reached',
    remedy: 'Check the way from this machine to the endpoint, and the server',
  },
  'upload-gone': {
    status: 80,
    type: 'ObjectStoreRefused',
    what: 'the multipart upload is gone',
    remedy: 'It was aborted or has expired; start the backup again',
  },
  'too-many-parts': {
    status: 81,
    type: 'ObjectStoreRefused',
    what: 'the artifact is larger than was estimated',
    remedy: 'Start the backup again; the next estimate is made from the size of the database',
  },
  'path-missing': {
    status: 82,
    type: 'CommandFailed',
    what: 'configuration files are missing',
    remedy: 'Restore them, or correct `backup.configuration` in the inventory (`optional` for what need not exist)',
  },
  'archive-failed': {
    status: 83,
    type: 'CommandFailed',
    what: 'tar broke off',
    remedy: 'If a file changed while it was read, try again',
  },
  'nothing-to-store': {
    status: 84,
    type: 'AnomalousBackup',
    what: 'there is nothing to save',
    remedy: 'Check the paths and databases in the inventory',
  },
  'artifact-damaged': {
    status: 85,
    type: 'BackupDamaged',
    what: 'the artifact does not read back',
    remedy: 'Do not rely on this recovery point; make a new one and look for the cause',
  },
  'artifact-missing': {
    status: 86,
    type: 'BackupDamaged',
    what: 'the artifact is not in the bucket',
    remedy: 'Do not rely on this recovery point; find out who deleted it',
  },
  'identity-refused': {
    status: 87,
    type: 'VerificationImpossible',
    what: 'the age identity does not open the artifact',
    remedy: 'Check `backup.identity` in the inventory: it must belong to one of the recipients',
  },
  'check-interrupted': {
    status: 88,
    type: 'VerificationImpossible',
    what: 'a process was killed before it was done',
    remedy: 'Look for a lack of memory on this machine and try again',
  },
} as const satisfies Record<string, Meaning>;
export type JobFailureCode = keyof typeof jobFailures;

/** The `guardia:error` line of a job's log, if there is one. */
export function jobFailureIn(log: string): { code: JobFailureCode; message: string } | undefined {
  const line = log.split('\n').findLast((candidate) => candidate.startsWith('guardia:error '));
  if (line === undefined) return undefined;
  try {
    const { code, message } = JSON.parse(line.slice('guardia:error '.length)) as { code: string; message: string };
    return Object.hasOwn(jobFailures, code) ? { code: code as JobFailureCode, message } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What `hosts.job` or `hosts.run` threw, made plain: a `JobFailed` or `CommandFailed` with a `guardia:error` line in its output becomes the failure that
 * the line is about; everything else is returned as it is. `about` names the artifact: "the dump of database main".
 */
export function explainJobFailure(error: unknown, about: string): unknown {
  if (!isFailure(error, 'JobFailed', 'CommandFailed')) return error;
  const details = (error.details?.[0] ?? {}) as { host?: string; output?: string };
  const found = jobFailureIn(details.output ?? '');
  if (!found) return error;
  const { type, what, remedy } = jobFailures[found.code];
  return jobFailure(
    type,
    `${about}${details.host === undefined ? '' : ` on ${details.host}`}: ${what}: ${found.message}`,
    {
      ...details,
      remedy,
      problem: found.code,
    },
  );
}

function jobFailure(type: FailureType, message: string, details: Record<string, unknown>): ApplicationFailure {
  return failure(type, message.replace(/[\s.]+$/, ''), details);
}
