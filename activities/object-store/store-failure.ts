import { ApplicationFailure } from '@temporalio/common';

/** Types of the failures of this folder, as they appear in the history. */
export type StoreFailureType =
  | 'StoreUnavailable'
  | 'StoreRefused'
  | 'StoreMisconfigured'
  | 'ObjectMissing'
  | 'ObjectExists'
  | 'UploadLost'
  | 'UploadIncomplete';

const remedies: Record<StoreFailureType, string> = {
  StoreUnavailable: 'Check that the endpoint can be reached from here and that the server is up; the call is retried.',
  StoreRefused: 'Check the access key and its policy, and the clock of this machine.',
  StoreMisconfigured: 'Check endpoint, region and bucket in the inventory.',
  ObjectMissing: 'Look at the bucket: the object was deleted or never written.',
  ObjectExists: 'Another run wrote this object first; it was left as it is.',
  UploadLost: 'The multipart upload was aborted or has expired; start the backup again.',
  UploadIncomplete: 'The parts in the store are not those that the host reported; start the backup again.',
};
const retryable: ReadonlySet<StoreFailureType> = new Set(['StoreUnavailable']);

export interface StorePlace {
  endpoint: string;
  bucket: string;
  operation: string;
  key?: string;
}

/** One readable sentence about what happened, where, and the remedy. */
export function storeFailure(type: StoreFailureType, place: StorePlace, what: string, cause?: unknown): ApplicationFailure {
  const where = `${place.operation} ${place.key === undefined ? `on bucket ${place.bucket}` : `${place.bucket}/${place.key}`} at ${place.endpoint}`;
  return ApplicationFailure.create({
    type,
    message: `${where}: ${what}. ${remedies[type]}`,
    nonRetryable: !retryable.has(type),
    details: [place],
    ...(cause instanceof Error ? { cause: new Error(`${cause.name}: ${cause.message}`) } : {}),
  });
}

interface ServiceError {
  name: string;
  message: string;
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

const misconfigured = new Set(['NoSuchBucket', 'PermanentRedirect', 'AuthorizationHeaderMalformed', 'InvalidBucketName', 'IllegalLocationConstraintException']);

/**
 * Turns whatever a call to S3 threw into one of our failures. A cancelled activity stays cancelled: the reason of the
 * signal is returned in place of the client's own AbortError.
 */
export function explainStoreError(error: unknown, place: StorePlace, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof ApplicationFailure) return error;
  const { name, message, code } = error as ServiceError;
  const status = statusOf(error);
  if (status === undefined) {
    // Certificates and addresses do not heal by themselves, but a name server or a route may: only the certificate is final.
    const text = code !== undefined && !message.includes(code) ? `${code} ${message}` : message;
    const certificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code ?? '');
    return storeFailure(certificate ? 'StoreMisconfigured' : 'StoreUnavailable', place, text || name, error);
  }
  const text = `HTTP ${status} ${name}${message && message !== name && message !== 'UnknownError' ? `, ${message}` : ''}`.replace(/\.$/, '');
  if (misconfigured.has(name)) return storeFailure('StoreMisconfigured', place, text, error);
  if (name === 'NoSuchUpload') return storeFailure('UploadLost', place, text, error);
  if (status === 412) return storeFailure('ObjectExists', place, text, error);
  if (status === 404) return storeFailure('ObjectMissing', place, text, error);
  if (status >= 500 || status === 429 || status === 408 || status === 409) return storeFailure('StoreUnavailable', place, text, error);
  return storeFailure('StoreRefused', place, text, error);
}
