import { CreateBucketCommand, ListMultipartUploadsCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Finding } from '../../../activities/doctor/findings.js';
import { examineStore } from '../../../activities/doctor/store-examination.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import type { AccessKey } from '../../../activities/object-store/object-store.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import { rootKey, startGateway, type Gateway } from '../object-store/versity-gateway.js';

let gateway: Gateway;
let hostKey: AccessKey;
beforeAll(async () => {
  gateway = await startGateway();
  hostKey = await gateway.hostKey('app', 'proofpass/');
});
afterAll(() => gateway?.remove());

/** What the doctor finds for proofpass with the host's key, in a bucket. */
async function examine(key: AccessKey, bucket = gateway.address.bucket): Promise<Record<string, Finding>> {
  const { system } = structuredClone(loadSystem('proofpass', inventoryLocations({})));
  Object.assign(system.objectStore, {
    ...gateway.address,
    bucket,
    keys: {
      worker: { accessKeyId: 'env:WORKER_ID', secretAccessKey: 'env:WORKER_SECRET' },
      hosts: { app: { accessKeyId: 'env:HOST_ID', secretAccessKey: 'env:HOST_SECRET' } },
    },
  });
  const secrets = createSecrets({
    directory: '/nonexistent',
    environment: {
      WORKER_ID: rootKey.accessKeyId,
      WORKER_SECRET: rootKey.secretAccessKey,
      HOST_ID: key.accessKeyId,
      HOST_SECRET: key.secretAccessKey,
    },
  });
  return Object.fromEntries((await examineStore(system, secrets)).map((finding) => [finding.id, finding]));
}

test('a bucket and a key as they should be; nothing is left by looking', async () => {
  expect(await examine(hostKey)).toMatchObject({
    store: { state: 'ok', found: expect.stringContaining('0 recovery points') as unknown },
    'store-versions': { state: 'ok' },
    'store-lock': { state: 'warning', remedy: expect.stringContaining('default retention') as unknown },
    'store-key-app': { state: 'ok', found: 'may write, and may not look around' },
  });
  const { client } = gateway.bucket;
  const Bucket = gateway.address.bucket;
  expect((await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? []).toEqual([]);
  expect((await client.send(new ListObjectVersionsCommand({ Bucket }))).Versions ?? []).toEqual([]);
});

test('a host with the key of somebody who may read everything is warned about', async () => {
  expect((await examine(rootKey))['store-key-app']).toMatchObject({
    state: 'warning',
    remedy: expect.stringContaining('s3:PutObject below proofpass/') as unknown,
  });
});

test('a key that may not write there is missed, and its secret is not told', async () => {
  const elsewhere = await gateway.hostKey('other', 'another-system/');
  const found = (await examine(elsewhere))['store-key-app'];
  expect(found).toMatchObject({ state: 'missing', found: expect.stringContaining('HTTP 403') as unknown });
  expect(JSON.stringify(found)).not.toContain(elsewhere.secretAccessKey);
});

test('a bucket that keeps no versions and has no lock is warned about', async () => {
  await gateway.bucket.client.send(new CreateBucketCommand({ Bucket: 'forgetful' }));
  expect(await examine(rootKey, 'forgetful')).toMatchObject({
    'store-versions': { state: 'warning' },
    'store-lock': { state: 'warning' },
  });
});

test('a bucket that is not there is one finding', async () => {
  expect(await examine(hostKey, 'nowhere')).toMatchObject({ store: { state: 'missing' } });
});
