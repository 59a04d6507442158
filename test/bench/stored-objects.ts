import {
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  ListPartsCommand,
} from '@aws-sdk/client-s3';
import { rootClient, type LabS3 } from '../../infra/lab/lab.js';
import type { SeenPart } from './parts-ledger.js';

/** Objects below a prefix as the store lists them, with their sizes in bytes. */
export async function storedObjects(s3: LabS3, prefix: string): Promise<{ key: string; bytes: number }[]> {
  const client = rootClient(s3);
  try {
    const found: { key: string; bytes: number }[] = [];
    for (let token: string | undefined, more = true; more;) {
      const page = await client.send(
        new ListObjectsV2Command({
          Bucket: s3.bucket,
          Prefix: prefix,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
      );
      for (const { Key, Size } of page.Contents ?? []) found.push({ key: Key ?? '', bytes: Size ?? 0 });
      token = page.NextContinuationToken;
      more = page.IsTruncated === true && token !== undefined;
    }
    return found;
  } finally {
    client.destroy();
  }
}

export const bytesBelow = async (s3: LabS3, prefix: string): Promise<number> =>
  (await storedObjects(s3, prefix)).reduce((sum, { bytes }) => sum + bytes, 0);

/** Removes every version of every object below a prefix, also locked ones: what the benchmark itself put there. */
export async function emptyPrefix(s3: LabS3, prefix: string): Promise<void> {
  const client = rootClient(s3);
  try {
    for (;;) {
      const page = await client.send(new ListObjectVersionsCommand({ Bucket: s3.bucket, Prefix: prefix }));
      const versions = [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])];
      if (versions.length === 0) return;
      for (const { Key, VersionId } of versions)
        await client.send(
          new DeleteObjectCommand({ Bucket: s3.bucket, Key, VersionId, BypassGovernanceRetention: true }),
        );
    }
  } finally {
    client.destroy();
  }
}

/** Looks at the parts of the uploads below a prefix that are not complete yet. */
export function partsWatcher(s3: LabS3, prefix: string): { look(): Promise<SeenPart[]>; close(): void } {
  const client = rootClient(s3);
  return {
    async look() {
      const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: s3.bucket, Prefix: prefix }));
      const seen: SeenPart[] = [];
      for (const { Key, UploadId } of Uploads ?? []) {
        try {
          const { Parts } = await client.send(new ListPartsCommand({ Bucket: s3.bucket, Key, UploadId }));
          for (const part of Parts ?? [])
            seen.push({
              key: Key ?? '',
              uploadId: UploadId ?? '',
              number: part.PartNumber ?? 0,
              bytes: part.Size ?? 0,
              storedAt: part.LastModified?.getTime() ?? 0,
            });
        } catch (error) {
          // It was completed between the two looks.
          if (!(error instanceof Error && error.name === 'NoSuchUpload')) throw error;
        }
      }
      return seen;
    },
    close: () => client.destroy(),
  };
}
