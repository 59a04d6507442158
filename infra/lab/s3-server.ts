import {
  CreateBucketCommand,
  HeadBucketCommand,
  PutBucketPolicyCommand,
  PutObjectLockConfigurationCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openBucket } from '../../activities/object-store/object-store.js';
import type { ProcessIdentity } from '../../activities/temporal/process-identity.js';
import { ensureTool } from '../packaging/toolbox.js';
import { startDetached } from './control-group.js';
import { directoryOf, groupOf, type LabState } from './lab-state.js';
import { gatewayOf } from './network.js';

export interface S3Key {
  accessKeyId: string;
  secretAccessKey: string;
}

/** The lab's object store: one versioned bucket whose objects are locked for a day unless a key may lift that. */
export interface LabS3 {
  endpoint: string;
  region: string;
  bucket: string;
  /** `root` may do everything, also remove locked objects; `worker` everything but that; `hosts` by system and host: write below the system's prefix. */
  keys: { root: S3Key; worker: S3Key; hosts: Record<string, Record<string, S3Key>> };
}

const PORT = 7070;
const REGION = 'us-east-1';
const BUCKET = 'guardia-backups';

/** Versity S3 Gateway over a directory of the lab. */
export const s3Server = {
  name: 's3',
  async start(state: LabState): Promise<ProcessIdentity> {
    const program = await ensureTool('versitygw');
    const at = directory(state);
    for (const name of ['data', 'versions', 'iam']) mkdirSync(path.join(at, name), { recursive: true, mode: 0o700 });
    const keys = existsSync(keysFile(state)) ? s3Of(state).keys : makeKeys(state);
    return startDetached(
      `${groupOf(state.index)}/s3`,
      [
        ...[
          program,
          '--quiet',
          '--port',
          `${gatewayOf(state.index)}:${PORT}`,
          '--region',
          REGION,
          '--iam-dir',
          path.join(at, 'iam'),
        ],
        ...['posix', '--versioning-dir', path.join(at, 'versions'), path.join(at, 'data')],
      ],
      path.join(at, 'log'),
      { ROOT_ACCESS_KEY_ID: keys.root.accessKeyId, ROOT_SECRET_ACCESS_KEY: keys.root.secretAccessKey },
    );
  },
  async ready(state: LabState): Promise<void> {
    const s3 = s3Of(state);
    const client = rootClient(s3);
    try {
      const until = Date.now() + 30_000;
      for (;;) {
        try {
          await client.send(new HeadBucketCommand({ Bucket: BUCKET }));
          return;
        } catch (error) {
          if (error instanceof Error && error.name === 'NotFound') break;
          if (Date.now() > until)
            throw new Error(`the S3 server does not answer at ${s3.endpoint}; see ${directory(state)}/log`, {
              cause: error,
            });
          await sleep(30);
        }
      }
      await makeBucket(client, s3);
    } finally {
      client.destroy();
    }
  },
};

async function makeBucket(client: S3Client, s3: LabS3): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket: s3.bucket, ObjectLockEnabledForBucket: true }));
  await client.send(
    new PutObjectLockConfigurationCommand({
      Bucket: s3.bucket,
      ObjectLockConfiguration: {
        ObjectLockEnabled: 'Enabled',
        Rule: { DefaultRetention: { Mode: 'GOVERNANCE', Days: 1 } },
      },
    }),
  );
  await client.send(new PutBucketPolicyCommand({ Bucket: s3.bucket, Policy: JSON.stringify(policy(s3)) }));
}

/** The bucket's policy; in production the same statements are attached to the keys. */
function policy(s3: LabS3): object {
  const bucket = `arn:aws:s3:::${s3.bucket}`;
  const hosts = Object.entries(s3.keys.hosts).flatMap(([system, keys]) =>
    Object.values(keys).map((key) => ({
      Effect: 'Allow',
      Principal: { AWS: [key.accessKeyId] },
      // What a host needs to send the parts of an upload that the worker has opened.
      Action: ['s3:PutObject'],
      Resource: [`${bucket}/${system}/*`],
    })),
  );
  const worker = {
    Effect: 'Allow',
    Principal: { AWS: [s3.keys.worker.accessKeyId] },
    Action: [
      ...[
        's3:PutObject',
        's3:GetObject',
        's3:GetObjectVersion',
        's3:GetObjectAttributes',
        's3:DeleteObject',
        's3:DeleteObjectVersion',
      ],
      ...['s3:GetObjectRetention', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts'],
    ],
    Resource: [`${bucket}/*`],
  };
  const workerBucket = {
    Effect: 'Allow',
    Principal: { AWS: [s3.keys.worker.accessKeyId] },
    Action: [
      ...['s3:ListBucket', 's3:ListBucketVersions', 's3:ListBucketMultipartUploads', 's3:GetBucketVersioning'],
      ...['s3:GetBucketObjectLockConfiguration', 's3:GetBucketLocation'],
    ],
    Resource: [bucket],
  };
  return { Version: '2012-10-17', Statement: [worker, workerBucket, ...hosts] };
}

/** A client with every right, for setting up and for looking behind the scenes in tests. */
export function rootClient(s3: LabS3, key: S3Key = s3.keys.root): S3Client {
  return openBucket({ ...s3, provider: 'versitygw' }, key).client;
}

const directory = (state: LabState): string => path.join(directoryOf(state.name), 's3');
const keysFile = (state: LabState): string => path.join(directory(state), 'keys.json');

/** What the lab's object store is reached by. */
export function s3Of(state: LabState): LabS3 {
  const keys = JSON.parse(readFileSync(keysFile(state), 'utf8')) as LabS3['keys'];
  return { endpoint: `http://${gatewayOf(state.index)}:${PORT}`, region: REGION, bucket: BUCKET, keys };
}

function makeKeys(state: LabState): LabS3['keys'] {
  const key = (name: string): S3Key => ({
    accessKeyId: `LAB${name}${randomBytes(8).toString('hex')}`.replace(/[^A-Za-z0-9]/g, '').toUpperCase(),
    secretAccessKey: randomBytes(30).toString('base64url'),
  });
  const hosts = Object.fromEntries(
    state.systems.map((system) => [
      system,
      Object.fromEntries(state.hosts.map((host) => [host.name, key(`${system}${host.name}`)])),
    ]),
  );
  const keys = { root: key('root'), worker: key('worker'), hosts };
  // The gateway's own file of users: its administration command would need the secrets as arguments.
  const accounts = [keys.worker, ...Object.values(hosts).flatMap((byHost) => Object.values(byHost))].map((one) => [
    one.accessKeyId,
    { access: one.accessKeyId, secret: one.secretAccessKey, role: 'user', userID: 0, groupID: 0, projectID: 0 },
  ]);
  const at = directory(state);
  writeFileSync(
    path.join(at, 'iam/users.json'),
    JSON.stringify({ accessAccounts: Object.fromEntries(accounts) as unknown }),
    { mode: 0o600 },
  );
  writeFileSync(keysFile(state), JSON.stringify(keys), { mode: 0o600 });
  return keys;
}
