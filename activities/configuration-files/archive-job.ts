import { argumentsOf, type ArtifactJob, scriptOf, secretLines } from '../object-store/job-text.js';
import type { AccessKey } from '../object-store/object-store.js';
import { keySecrets, uploadArguments, type UploadTarget } from '../object-store/upload-target.js';

const script = scriptOf('upload', new URL('./archive-to-store.sh', import.meta.url));

/**
 * The job that saves configuration files of a host, as one encrypted tar archive, into the parts of an open upload.
 * `paths` and `optional` are absolute and may be shell patterns; each of `paths` must match something. Where a path is a
 * link, what it points to is saved with it. Standard output is a `ConfigurationResult`.
 */
export function archiveJob(
  files: { paths: readonly string[]; optional: readonly string[] },
  target: UploadTarget,
  key: AccessKey,
): ArtifactJob {
  return {
    script,
    args: argumentsOf({ ...uploadArguments(target), path: files.paths, 'optional-path': files.optional }),
    stdin: secretLines(keySecrets(key)),
  };
}
