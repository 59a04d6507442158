import { ApplicationFailure } from '@temporalio/common';
import { failure, type FailureType } from '../../workflows/contracts/errors.js';

export interface StorePlace {
  endpoint: string;
  bucket: string;
  operation: string;
  key?: string;
}

const remedies = {
  unavailable: 'Check that the endpoint can be reached from here and that the server is up',
  refused: 'Check the access key and its policy, and the clock of this machine',
  misconfigured: 'Check endpoint, region and bucket in the inventory',
  exists: 'Another run wrote this object first; it was left as it is',
  'upload-lost': 'The multipart upload was aborted or has expired; start the backup again',
  incomplete: 'The parts in the store are not those that the host reported; start the backup again',
} as const;
export type StoreProblem = keyof typeof remedies;

const types: Record<StoreProblem, FailureType> = {
  unavailable: 'ObjectStoreUnavailable',
  refused: 'ObjectStoreRefused',
  misconfigured: 'ObjectStoreRefused',
  exists: 'ObjectConflict',
  'upload-lost': 'ObjectStoreRefused',
  incomplete: 'VerificationFailed',
};

/** A failure that names endpoint, bucket, operation and key, and the remedy. */
export function storeFailure(
  problem: StoreProblem,
  place: StorePlace,
  what: string,
  cause?: unknown,
): ApplicationFailure {
  const target = place.key === undefined ? `bucket ${place.bucket}` : `${place.bucket}/${place.key}`;
  return failure(
    types[problem],
    `${place.operation} of ${target} at ${place.endpoint}: ${what.replace(/\.$/, '')}`,
    { remedy: remedies[problem], problem, ...place },
    cause instanceof Error ? cause : undefined,
  );
}

/** Which problem one of our failures is about, if it is about the store. */
export function problemOf(error: unknown): StoreProblem | undefined {
  if (!(error instanceof ApplicationFailure)) return undefined;
  return (error.details?.[0] as { problem?: StoreProblem } | undefined)?.problem;
}

interface ServiceError {
  name?: string;
  message?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number };
}

/** HTTP status of an error of the S3 client, if the server answered at all. */
export function statusOf(error: unknown): number | undefined {
  return (error as ServiceError | undefined)?.$metadata?.httpStatusCode;
}

/** Error code of an error of the S3 client, such as `NoSuchUpload`. */
export function codeOf(error: unknown): string {
  return (error as ServiceError | undefined)?.name ?? '';
}

const misconfigured = new Set([
  'NoSuchBucket',
  'PermanentRedirect',
  'AuthorizationHeaderMalformed',
  'InvalidBucketName',
  'IllegalLocationConstraintException',
]);

/**
 * Turns whatever a call to S3 threw into one of our failures. A cancelled activity stays cancelled: the reason of the
 * signal is returned in place of the client's own AbortError.
 */
export function explainStoreError(error: unknown, place: StorePlace, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof ApplicationFailure) return error;
  const { name = 'Error', message = '', code } = error as ServiceError;
  const status = statusOf(error);
  if (status === undefined) {
    const text = code !== undefined && !message.includes(code) ? `${code} ${message}` : message;
    // A name server or a route may come back; a certificate that is not trusted stays so
    const certificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code ?? '');
    return storeFailure(certificate ? 'misconfigured' : 'unavailable', place, text || name, error);
  }
  const said = message && message !== name && message !== 'UnknownError' ? `, ${message}` : '';
  return storeFailure(problemIn(name, status), place, `HTTP ${status} ${name}${said}`, error);
}

function problemIn(name: string, status: number): StoreProblem {
  if (misconfigured.has(name)) return 'misconfigured';
  if (name === 'NoSuchUpload') return 'upload-lost';
  if (status === 412) return 'exists';
  if (status >= 500 || status === 429 || status === 408 || status === 409) return 'unavailable';
  return 'refused';
}
