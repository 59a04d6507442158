import { type AccessKey, type BucketAddress, objectUrl } from './object-store.js';
import { providerProfiles } from './provider-profile.js';

/** Where a job on a host sends its artifact, and how. */
export interface UploadTarget {
  address: BucketAddress;
  key: string;
  uploadId: string;
  /** Bytes, a multiple of 1 MiB: `partSizeFor`. */
  partSize: number;
  /** age public keys that the artifact is encrypted to. */
  recipients: readonly string[];
  /** How long one part is tried before the job gives up, in seconds. Default 900. */
  retrySeconds?: number;
  /** Level of zstd. Default 1: measured as the fastest that is worth its bytes. */
  level?: number;
}

/** The arguments that `part-upload.sh` needs. */
export function uploadArguments(target: UploadTarget) {
  const profile = providerProfiles[target.address.provider];
  return {
    'object-url': objectUrl(target.address, target.key),
    'upload-id': encodeURIComponent(target.uploadId),
    region: target.address.region,
    'part-size': target.partSize,
    'max-parts': profile.maxParts,
    'retry-seconds': target.retrySeconds ?? 900,
    checksum: profile.storedChecksum ? 'sha256' : undefined,
    level: target.level ?? 1,
    recipient: target.recipients,
  };
}

/** The secrets that every job with the store needs. */
export function keySecrets(key: AccessKey) {
  return { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey, sessionToken: key.sessionToken };
}
