import { z } from 'zod';
import { Name, SystemName } from './names.js';

/*
 * A recovery point is one backup set in the bucket:
 *
 *   PREFIX SYSTEM/recovery-points/ID/database-NAME.dump.zst.age
 *                                    globals-NAME.sql.zst.age
 *                                    configuration-HOST.tar.zst.age
 *                                    manifest.json                      written last: with it the set is complete
 *                                    proofs/verified.json, damaged.json, restored.json
 *
 * An object without a manifest beside it is an orphan. Plain tools restore a set: curl or aws, age, zstd, pg_restore, tar.
 */

/** `YYYYMMDDTHHMMSSZ-xxxxxxxx`: the time in UTC and eight hex digits of the run. Sorts by time. */
export const RecoveryPointId = z
  .string()
  .regex(/^\d{8}T\d{6}Z-[0-9a-f]{8}$/, 'a recovery point looks like 20260131T020000Z-1a2b3c4d');
export type RecoveryPointId = z.infer<typeof RecoveryPointId>;

/**
 * The id for a run's recovery point. The last digits of the run id are used, because the first ones of a UUID version 7
 * are its time. @throws RangeError for something that is no UUID or no time.
 */
export function recoveryPointId(at: Date, runId: string): RecoveryPointId {
  const digits = runId.replaceAll('-', '').toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(digits)) throw new RangeError(`not a run id: ${runId}`);
  const time = at
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:]/g, '');
  return RecoveryPointId.parse(`${time}-${digits.slice(-8)}`);
}

/** When a recovery point was begun, from its id. */
export function timeOfRecoveryPoint(id: RecoveryPointId): Date {
  return new Date(id.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-.*$/, '$1-$2-$3T$4:$5:$6Z'));
}

export const ArtifactKind = z.enum(['database', 'globals', 'configuration']);
export type ArtifactKind = z.infer<typeof ArtifactKind>;

const suffix: Record<ArtifactKind, string> = {
  database: 'dump.zst.age',
  globals: 'sql.zst.age',
  configuration: 'tar.zst.age',
};

/** Where a system's recovery points are, in its bucket. `prefix` is the inventory's `backup.prefix`. */
export function recoveryPointsPrefix(prefix: string, system: string): string {
  return `${prefix}${system}/recovery-points/`;
}

/** Keys of one recovery point. `name` of an artifact: the database's or the host's name in the inventory. */
export function keysOf(prefix: string, system: string, id: RecoveryPointId) {
  const base = `${recoveryPointsPrefix(prefix, system)}${id}/`;
  return {
    base,
    manifest: `${base}manifest.json`,
    artifact: (kind: ArtifactKind, name: string) => `${base}${kind}-${name}.${suffix[kind]}`,
    proof: (level: ProofLevel) => `${base}proofs/${level}.json`,
  };
}

/** The recovery point that a key below `recoveryPointsPrefix` belongs to, or undefined for a key that is none of ours. */
export function recoveryPointOf(key: string, points: string): RecoveryPointId | undefined {
  if (!key.startsWith(points)) return undefined;
  const id = RecoveryPointId.safeParse(key.slice(points.length).split('/', 1)[0]);
  return id.success ? id.data : undefined;
}

const Bytes = z.int().nonnegative();
const Hex256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What every job that stores an artifact reports. */
const stored = {
  bytes: z.object({
    plain: Bytes.describe('Before compression and encryption'),
    stored: Bytes.describe('In the bucket'),
  }),
  sha256: Hex256.describe('Of the object as it is stored, in hex'),
  parts: z.object({
    size: Bytes.describe('Of every part but the last'),
    count: z.int().nonnegative(),
    compositeSha256: z
      .string()
      .describe('base64 SHA-256 over the SHA-256 of the parts, then -COUNT, as S3 computes it'),
    digest: Hex256.describe('SHA-256 over the lines "NUMBER ETAG BYTES", as the server answered the host'),
  }),
  level: z.int().describe('Level of zstd'),
  seconds: z.number().nonnegative(),
  tools: z.record(z.string(), z.string()).describe('Versions of the programs that wrote it'),
};

export const DatabaseIdentity = z.object({
  name: z.string(),
  oid: z.string(),
  systemIdentifier: z.string().describe('Of the cluster: made by initdb, kept by replicas and physical backups'),
  serverVersion: z.int().describe('As server_version_num: 150018 is 15.18'),
  bytes: Bytes.describe('pg_database_size'),
  encoding: z.string(),
  standby: z.boolean(),
  lsn: z.string().describe("Position in the WAL at the dump's snapshot"),
  at: z.string().describe("Time of the dump's snapshot"),
  extensions: z.record(z.string(), z.string()),
});
export type DatabaseIdentity = z.infer<typeof DatabaseIdentity>;

export const DatabaseResult = z.object({
  kind: z.literal('database'),
  ...stored,
  database: DatabaseIdentity,
  contents: z
    .object({
      databaseName: z.string(),
      digest: Hex256.describe('Of the table of contents without its comments'),
      entries: z.int(),
      tables: z.int(),
      tablesWithData: z.int(),
      tableNames: z.array(z.string()).describe('schema.name, sorted; cut where there are very many'),
      missingTables: z.array(z.string()).describe('Expected tables that the dump does not hold'),
    })
    .describe("Read off the dump's own table of contents, not asked of the server"),
});
export type DatabaseResult = z.infer<typeof DatabaseResult>;

export const GlobalsResult = z.object({
  kind: z.literal('globals'),
  ...stored,
  contents: z.object({
    roles: z.int(),
    passwords: z.boolean().describe('Whether the login could read the password hashes'),
  }),
});
export type GlobalsResult = z.infer<typeof GlobalsResult>;

export const ConfigurationResult = z.object({
  kind: z.literal('configuration'),
  ...stored,
  contents: z.object({
    digest: Hex256.describe('Of the sorted names in the archive'),
    entries: z.int(),
    files: z.int(),
  }),
});
export type ConfigurationResult = z.infer<typeof ConfigurationResult>;

/** Standard output of a job that stores an artifact. */
export const ArtifactResult = z.discriminatedUnion('kind', [DatabaseResult, GlobalsResult, ConfigurationResult]);
export type ArtifactResult = z.infer<typeof ArtifactResult>;

const placed = {
  name: Name.describe('Of the database or the host, in the inventory'),
  host: Name.describe('Where it was made'),
  key: z.string(),
  versionId: z.string().optional().describe('Where the bucket keeps versions'),
  compression: z.literal('zstd').default('zstd'),
  encryption: z.literal('age').default('age'),
  recipients: z
    .array(z.string())
    .min(1)
    .describe('Public age keys; the identity of any one of them opens the artifact'),
};

export const Artifact = z.discriminatedUnion('kind', [
  DatabaseResult.extend(placed),
  GlobalsResult.extend(placed),
  ConfigurationResult.extend(placed),
]);
export type Artifact = z.infer<typeof Artifact>;

const Run = z.object({ workflowId: z.string(), runId: z.string() });

/** `manifest.json`: what a complete recovery point holds. Unknown members are kept out, so that later versions can add some. */
export const Manifest = z.object({
  schemaVersion: z.literal(1),
  system: SystemName,
  id: RecoveryPointId,
  createdAt: z.iso.datetime().describe('When the run began it'),
  run: Run,
  guardia: z.string().describe('Version of guardia'),
  retention: z.string().default('standard').describe('Retention class'),
  parents: z.array(RecoveryPointId).default([]).describe('Recovery points that this one cannot be restored without'),
  acceptedAnomalies: z.array(z.string()).default([]).describe('What was unusual, and kept on request'),
  artifacts: z.array(Artifact).min(1),
});
export type Manifest = z.infer<typeof Manifest>;

export const ProofLevel = z.enum(['verified', 'damaged', 'restored']);
export type ProofLevel = z.infer<typeof ProofLevel>;

/** `proofs/LEVEL.json`: what was found out about a complete recovery point. */
export const Proof = z.object({
  schemaVersion: z.literal(1),
  system: SystemName,
  id: RecoveryPointId,
  level: ProofLevel,
  at: z.iso.datetime(),
  by: Name.describe('Machine that looked'),
  run: Run,
  seconds: z.number().nonnegative(),
  artifacts: z.array(
    z.object({
      kind: ArtifactKind,
      name: Name,
      ok: z.boolean(),
      message: z.string().optional(),
      sha256: Hex256.optional(),
      bytes: z.object({ plain: Bytes, stored: Bytes }).optional(),
      seconds: z.number().nonnegative().optional(),
      tools: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
export type Proof = z.infer<typeof Proof>;

/** Standard output of the job that reads an artifact back. */
export const VerifyResult = z.object({
  kind: ArtifactKind,
  bytes: z.object({ plain: Bytes, stored: Bytes }),
  sha256: Hex256,
  contents: z.record(z.string(), z.union([z.string(), z.number()])),
  seconds: z.number().nonnegative(),
  tools: z.record(z.string(), z.string()),
});
export type VerifyResult = z.infer<typeof VerifyResult>;

/** The same bytes for the same content, in the order of the schema: writing it again is then no change. */
export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(Manifest.parse(manifest), undefined, 2)}\n`;
}

/** As `manifestText`. */
export function proofText(proof: Proof): string {
  return `${JSON.stringify(Proof.parse(proof), undefined, 2)}\n`;
}

/** @throws Error that names `where` and every field that is wrong. */
export function parseManifest(text: string, where: string): Manifest {
  return parseJson(Manifest, text, where, 'manifest');
}

/** @throws Error that names `where` and every field that is wrong. */
export function parseProof(text: string, where: string): Proof {
  return parseJson(Proof, text, where, 'proof');
}

function parseJson<T extends z.ZodType>(schema: T, text: string, where: string, what: string): z.infer<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`${where} is not a ${what}: ${(error as Error).message}`, { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map((issue) => `${issue.path.join('.') || '(top)'}: ${issue.message}`);
  throw new Error(`${where} is not a ${what} that this version reads: ${wrong.join('; ')}`);
}

export type RecoveryPointState = 'complete' | ProofLevel;

/**
 * How far a complete recovery point has been proved. Damage found once stays: bytes in a bucket do not heal, and a
 * checker that could not do its work writes no proof. Proofs of another recovery point count for nothing.
 */
export function stateOf(
  manifest: Pick<Manifest, 'system' | 'id'>,
  proofs: readonly Pick<Proof, 'system' | 'id' | 'level'>[],
): RecoveryPointState {
  const levels = new Set(
    proofs.filter((proof) => proof.system === manifest.system && proof.id === manifest.id).map((proof) => proof.level),
  );
  if (levels.has('damaged')) return 'damaged';
  if (levels.has('restored')) return 'restored';
  return levels.has('verified') ? 'verified' : 'complete';
}

export interface Anomaly {
  code: 'wrong-database' | 'empty' | 'tables-missing' | 'below-minimum' | 'shrunk' | 'other-database' | 'other-cluster';
  /** For people. */
  sentence: string;
  /** Whether an operator may keep such a dump (`acceptAnomaly`). A dump of something else is never kept. */
  acceptable: boolean;
}

/** How many earlier dumps a new one is compared with. */
export const COMPARED_DUMPS = 7;

/**
 * Whether a dump looks like a backup of this database, before it becomes one. Pure.
 * `name`: the database in the inventory. `previous`: manifests of this system that are not damaged, in any order; the
 * newest seven that hold this database count. Sizes are bytes before compression.
 */
export function judgeDump(input: {
  name: string;
  now: Pick<DatabaseResult, 'bytes' | 'contents'> & { database: Pick<DatabaseIdentity, 'name' | 'systemIdentifier'> };
  previous: readonly Pick<Manifest, 'id' | 'artifacts'>[];
  expect: { databaseName: string; tables: readonly string[]; minimumBytes: number };
  lowestShareOfMedian: number;
}): { ok: true } | { ok: false; reasons: Anomaly[] } {
  const { name, now, expect } = input;
  const reasons: Anomaly[] = [];
  const add = (code: Anomaly['code'], acceptable: boolean, sentence: string) =>
    reasons.push({ code, sentence, acceptable });

  const found = now.contents.databaseName;
  if (found !== expect.databaseName || now.database.name !== expect.databaseName) {
    const other = found === expect.databaseName ? now.database.name : found;
    add('wrong-database', false, `the dump is of database "${other}", not of "${expect.databaseName}"`);
  }
  if (now.bytes.plain === 0 || now.bytes.stored === 0) add('empty', false, 'the dump has no bytes');
  else if (now.contents.tables === 0) add('empty', false, 'the dump holds no table');
  else if (now.contents.tablesWithData === 0) add('empty', false, 'the dump holds tables, but the data of none');

  // The list of names may be cut; then the host's own comparison counts
  const names = new Set(now.contents.tableNames);
  const missing =
    now.contents.tableNames.length === now.contents.tables
      ? expect.tables.filter((table) => !names.has(table))
      : expect.tables.filter((table) => now.contents.missingTables.includes(table));
  if (missing.length > 0) add('tables-missing', false, `the dump does not hold ${missing.join(', ')}`);

  if (now.bytes.plain < expect.minimumBytes) {
    add(
      'below-minimum',
      true,
      `the dump has ${now.bytes.plain} bytes, the inventory expects at least ${expect.minimumBytes}`,
    );
  }

  const earlier = [...input.previous]
    .sort((a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0))
    .flatMap((manifest) =>
      manifest.artifacts.flatMap((artifact) =>
        artifact.kind === 'database' && artifact.name === name ? [{ id: manifest.id, artifact }] : [],
      ),
    )
    .slice(0, COMPARED_DUMPS);
  const usual = median(earlier.map(({ artifact }) => artifact.bytes.plain));
  if (usual !== undefined && now.bytes.plain < usual * input.lowestShareOfMedian) {
    const share = Math.floor((now.bytes.plain / usual) * 100);
    add(
      'shrunk',
      true,
      `the dump has ${now.bytes.plain} bytes, ${share} % of the median of the last ${earlier.length} (${usual}); less than ${Math.round(input.lowestShareOfMedian * 100)} % is refused`,
    );
  }
  const newest = earlier[0];
  if (newest && newest.artifact.database.name !== now.database.name) {
    add(
      'other-database',
      true,
      `the dump is of database "${now.database.name}", ${newest.id} was of "${newest.artifact.database.name}"`,
    );
  }
  if (newest && newest.artifact.database.systemIdentifier !== now.database.systemIdentifier) {
    add(
      'other-cluster',
      true,
      `the dump is from another PostgreSQL cluster (system identifier ${now.database.systemIdentifier}) than ${newest.id} (${newest.artifact.database.systemIdentifier})`,
    );
  }
  return reasons.length === 0 ? { ok: true } : { ok: false, reasons };
}

/** Of an even number, the mean of the two in the middle. Undefined of none. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}
