import type { ObjectStore } from '../../workflows/contracts/system.js';

export type Provider = ObjectStore['provider'];

const MiB = 1024 * 1024;

/** What differs between S3 servers, as far as guardia meets it. Sizes in bytes. */
export interface ProviderProfile {
  /** `http://endpoint/bucket/key` instead of `http://bucket.endpoint/key`. */
  pathStyle: boolean;
  /** Store a SHA-256 beside every part. Where not, the signed digest of each request's payload still guards the way there. */
  storedChecksum: boolean;
  /** `If-None-Match: *` is honoured by PutObject and CompleteMultipartUpload. Where not, a HEAD before comes close. */
  conditionalWrite: boolean;
  minPartSize: number;
  maxPartSize: number;
  maxParts: number;
}

const amazon: ProviderProfile = {
  pathStyle: false,
  storedChecksum: true,
  conditionalWrite: true,
  minPartSize: 5 * MiB,
  maxPartSize: 5 * 1024 * MiB,
  maxParts: 10_000,
};

/**
 * Profiles by provider. versitygw is tested; the others follow their documentation and are deliberately cautious:
 * what a server may not know is left out, and the signed payload digest of Signature Version 4 is checked by every server.
 */
export const providerProfiles: Readonly<Record<Provider, ProviderProfile>> = {
  aws: amazon,
  minio: { ...amazon, pathStyle: true },
  versitygw: { ...amazon, pathStyle: true },
  r2: { ...amazon, pathStyle: true, storedChecksum: false },
  ceph: { ...amazon, pathStyle: true, storedChecksum: false, conditionalWrite: false },
  // Some servers take 1,000 parts only (Scaleway), reject unknown checksums, or ignore conditions.
  other: { ...amazon, pathStyle: true, storedChecksum: false, conditionalWrite: false, maxParts: 1000 },
};

/**
 * Size of every part but the last, in bytes: max(16 MiB, ceil(estimate * 1.5 / 9000)), rounded up to a MiB and kept within
 * what the provider takes. 1.5 covers a poor estimate and incompressible data; 9,000 leaves room below the limit of
 * 10,000 parts (nine tenths of `maxParts` elsewhere). All parts are equal because some providers demand it.
 * @throws RangeError when not even the largest parts would hold the estimate.
 */
export function partSizeFor(estimatedBytes: number, profile: ProviderProfile): number {
  if (!Number.isFinite(estimatedBytes) || estimatedBytes < 0)
    throw new RangeError(`not a size in bytes: ${estimatedBytes}`);
  const needed = Math.ceil((estimatedBytes * 1.5) / (profile.maxParts * 0.9));
  const size = Math.ceil(Math.max(16 * MiB, profile.minPartSize, needed) / MiB) * MiB;
  if (size <= profile.maxPartSize) return size;
  if (profile.maxPartSize * profile.maxParts >= estimatedBytes) return Math.floor(profile.maxPartSize / MiB) * MiB;
  throw new RangeError(
    `an artifact of ${estimatedBytes} bytes does not fit into ${profile.maxParts} parts of ${profile.maxPartSize} bytes`,
  );
}
