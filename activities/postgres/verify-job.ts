import { failure } from '../../workflows/contracts/errors.js';
import type { Artifact } from '../../workflows/contracts/recovery-point.js';
import { argumentsOf, type ArtifactJob, scriptOf, secretLines } from '../object-store/job-text.js';
import { type AccessKey, type BucketAddress, objectUrl } from '../object-store/object-store.js';
import { keySecrets } from '../object-store/upload-target.js';

const script = scriptOf('download', new URL('./verify-artifact.sh', import.meta.url));

/**
 * The job that reads an artifact back to its last byte: download, SHA-256, decrypt, decompress, parse, compare with the
 * manifest. Runs on the machine that holds the age identity, which is not the artifact's source; it needs no root.
 * Read-only, so safe to run any number of times. Standard output is a `VerifyResult`.
 * `identity` (secret): an age identity file's text; every key in it is tried. @throws SecretUnavailable
 */
export function verifyJob(
  artifact: Artifact,
  address: BucketAddress,
  key: AccessKey,
  identity: string,
  options: { retrySeconds?: number } = {},
): ArtifactJob {
  const identities = identity.match(/^AGE-SECRET-KEY-1[0-9A-Z]+/gm);
  if (!identities)
    throw failure('SecretUnavailable', 'the age identity holds no line that starts with AGE-SECRET-KEY-1', {
      remedy: 'Put the file that age-keygen wrote there',
    });
  return {
    script,
    args: argumentsOf({
      kind: artifact.kind,
      'object-url': objectUrl(address, artifact.key),
      'version-id': artifact.versionId === undefined ? undefined : encodeURIComponent(artifact.versionId),
      region: address.region,
      'retry-seconds': options.retrySeconds ?? 300,
      'stored-bytes': artifact.bytes.stored,
      'plain-bytes': artifact.bytes.plain,
      sha256: artifact.sha256,
      'contents-digest': 'digest' in artifact.contents ? artifact.contents.digest : undefined,
      'server-major': artifact.kind === 'database' ? Math.floor(artifact.database.serverVersion / 10000) : undefined,
    }),
    stdin: secretLines({ ...keySecrets(key), identity: identities.join(' ') }),
  };
}
