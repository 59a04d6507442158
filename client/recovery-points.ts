import { readRecoveryPoints, type StoredRecoveryPoint } from '../activities/object-store/recovery-point-store.js';
import { savesAllDatabases } from '../workflows/contracts/backup.js';
import { timeOfRecoveryPoint, type RecoveryPointState } from '../workflows/contracts/recovery-point.js';
import { durationText } from './text-units.js';
import { withSystemStore } from './store-access.js';

/** One recovery point, as `guardia backups --json` prints it. Sizes in bytes. */
export interface RecoveryPointSummary {
  id: string;
  at: string;
  state: RecoveryPointState;
  plainBytes: number;
  storedBytes: number;
  artifacts: {
    kind: string;
    name: string;
    host: string;
    plainBytes: number;
    storedBytes: number;
    seconds: number;
    tables?: number;
  }[];
  /** What was found out about it, and when. */
  proofs: { level: string; at: string; seconds: number }[];
  run: { workflowId: string; runId: string };
  acceptedAnomalies: string[];
}

export interface RecoveryPointList {
  system: string;
  location: string;
  /** What the system has by the inventory: a backup without them is not one of all of it. */
  databases: string[];
  points: RecoveryPointSummary[];
  /** Manifests that cannot be read, and why. */
  unreadable: string[];
}

/** A day: what the manuals' backup schedules promise. Milliseconds. */
const FRESH_MS = 24 * 3600 * 1000;

/** The newest recovery points of a system, newest first, read from its bucket with the worker's key. Throws as withSystemStore does. */
export async function listRecoveryPoints(
  env: Readonly<Record<string, string | undefined>>,
  system: string,
  newest: number,
): Promise<RecoveryPointList> {
  return withSystemStore(env, system, async (bucket, store, { databases }) => {
    const { points, unreadable } = await readRecoveryPoints(
      bucket,
      { prefix: store.prefix, system: store.system },
      newest,
    );
    return {
      system,
      location: `${bucket.endpoint}/${bucket.bucket}/${store.prefix}${system}`,
      databases: Object.keys(databases),
      points: points.map(summaryOf),
      unreadable,
    };
  });
}

function summaryOf({ manifest, proofs, state }: StoredRecoveryPoint): RecoveryPointSummary {
  const sum = (of: 'plain' | 'stored'): number => manifest.artifacts.reduce((total, { bytes }) => total + bytes[of], 0);
  return {
    id: manifest.id,
    at: timeOfRecoveryPoint(manifest.id).toISOString(),
    state,
    plainBytes: sum('plain'),
    storedBytes: sum('stored'),
    artifacts: manifest.artifacts.map((artifact) => ({
      kind: artifact.kind,
      name: artifact.name,
      host: artifact.host,
      plainBytes: artifact.bytes.plain,
      storedBytes: artifact.bytes.stored,
      seconds: artifact.seconds,
      ...(artifact.kind === 'database' ? { tables: artifact.contents.tables } : {}),
    })),
    proofs: proofs.map(({ level, at, seconds }) => ({ level, at, seconds })),
    run: manifest.run,
    acceptedAnomalies: manifest.acceptedAnomalies,
  };
}

/** What an operator must know about a list of recovery points before anything goes wrong. Pure. */
export function backupWarnings(
  list: Pick<RecoveryPointList, 'system' | 'databases' | 'points' | 'unreadable'>,
  now: number,
): string[] {
  const warnings = list.unreadable.map((message) => `a manifest cannot be read: ${message}`);
  const start = `start one with guardia run backup ${list.system}`;
  const { databases } = list;
  // What a run that changed hosts ends with holds their configuration only.
  const good = list.points.find(
    ({ state, artifacts }) =>
      (state === 'verified' || state === 'restored') &&
      savesAllDatabases(
        databases,
        artifacts.flatMap(({ kind, name }) => (kind === 'database' ? [name] : [])),
      ),
  );
  const whole = databases.length === 0 ? '' : ` with all of its databases (${databases.join(', ')})`;
  const [newest] = list.points;
  if (newest === undefined) warnings.push(`${list.system} has no backup: ${start}`);
  else if (good === undefined)
    warnings.push(
      `no backup of ${list.system}${whole} has been read back to its end, of the newest ${list.points.length}: ${start}`,
    );
  else if (now - Date.parse(good.at) > FRESH_MS)
    warnings.push(
      `the newest verified backup of ${list.system}${whole} is ${durationText(now - Date.parse(good.at))} old: ${start}`,
    );
  if (newest !== undefined && newest.state === 'damaged')
    warnings.push(`the newest backup, ${newest.id}, does not read back`);
  return warnings;
}
