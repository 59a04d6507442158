import { cancellationSignal, heartbeat } from '@temporalio/activity';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { deployOf, type DeployRecord } from '../../workflows/contracts/deploy.js';
import { recordsPrefix, RunRecord } from '../../workflows/contracts/run-record.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { StoreReference } from '../../workflows/contracts/store-reference.js';
import type { Bucket } from '../object-store/object-store.js';
import { getSmallObject, listObjects, SMALL_OBJECT, type ListedObject } from '../object-store/objects.js';
import { withBucket } from '../object-store/open-store.js';
import type { Secrets } from '../secrets/resolve.js';
import { jsonOf } from './record-json.js';

const ObserveDeploys = z.object({
  store: StoreReference,
  directory: z.string().describe('The path of the link: tells one deployment from another'),
  most: z.int().min(1).max(20),
});

/** Records of other runbooks that are read in search of a deploy that was started under a workflow id of its own. */
const MOST_OTHERS = 100;

export function createDeployRecordActivities({ secrets }: { secrets: Secrets }) {
  return {
    /** The last deploys of an application that succeeded, newest first, as their records tell. Reads only. */
    async observeDeploys({ with: raw }: CallInput): Promise<{ deploys: DeployRecord[] }> {
      const { store, directory, most } = ObserveDeploys.parse(raw);
      return withBucket(secrets, store, async (bucket) => ({
        deploys: await readDeploys(bucket, store, directory, most, cancellationSignal()),
      }));
    },
  };
}

/** As above; a record that this version cannot read is passed over. */
export async function readDeploys(
  bucket: Bucket,
  place: { prefix: string; system: string },
  directory: string,
  most: number,
  signal?: AbortSignal,
): Promise<DeployRecord[]> {
  const ends: ListedObject[] = [];
  const prefix = recordsPrefix(place.prefix, place.system);
  for await (const object of listObjects(bucket, prefix, signal))
    if (object.key.endsWith('/end.json')) ends.push(object);
  ends.sort((a, b) => b.modifiedAt.localeCompare(a.modifiedAt));
  const named = ends.filter(({ key }) => key.startsWith(`${prefix}deploy_`));
  // Any workflow id may be typed into the Web UI; these are what guardia itself calls the runs of other runbooks.
  const others = ends
    .filter((end) => !named.includes(end))
    .filter(({ key }) => !Object.keys(runbooks).some((name) => key.startsWith(`${prefix}${name}_${place.system}_`)))
    .slice(0, MOST_OTHERS);
  const found: DeployRecord[] = [];
  for (const some of [named, others]) {
    let here = 0;
    for (const { key, bytes } of some) {
      if (here === most) break;
      if (bytes > SMALL_OBJECT) continue;
      heartbeat({ reading: key });
      const content = await getSmallObject(bucket, key, signal);
      const record = content && RunRecord.safeParse(jsonOf(content)).data;
      const deploy = record && deployOf(record.report, directory);
      if (!deploy) continue;
      found.push(deploy);
      here += 1;
    }
  }
  return found.sort((a, b) => b.endedAt.localeCompare(a.endedAt)).slice(0, most);
}
