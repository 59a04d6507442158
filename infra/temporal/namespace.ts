import type { Connection } from '@temporalio/client';
// CommonJS whose names Node cannot see: only the default import works, though the types promise more.
import proto, { type temporal } from '@temporalio/proto';
import { searchAttributes } from '../../workflows/contracts/search-attributes.js';

const IndexedValueType = proto.temporal.api.enums.v1.IndexedValueType;
const TYPES = {
  KEYWORD: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
  KEYWORD_LIST: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
} as const;

/** gRPC: the method is not there, or is not ours to call. Temporal Cloud has no operator service. */
const NOT_OURS = [7, 12];
const VISIBLE_SECONDS = 60;
const DAY_SECONDS = 86_400;

/**
 * Registers the search attributes that are missing on the namespace, waits until runs can use them, and raises the retention of closed
 * runs to `retentionDays` where it is shorter. Idempotent; never removes an attribute and never shortens the retention.
 * Returns what it changed.
 * Throws when the namespace has an attribute of that name with another type, or when we may not register any: the message says how.
 */
export async function prepareNamespace(
  connection: Connection,
  namespace: string,
  options: { retentionDays?: number } = {},
): Promise<{ added: string[]; retentionDays: number }> {
  const added = await addSearchAttributes(connection, namespace);
  const { config } = await connection.workflowService.describeNamespace({ namespace });
  const days = Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) / DAY_SECONDS;
  if (options.retentionDays === undefined || days >= options.retentionDays) return { added, retentionDays: days };
  await connection.workflowService.updateNamespace({
    namespace,
    config: { workflowExecutionRetentionTtl: { seconds: asLong(options.retentionDays * DAY_SECONDS) } },
  });
  return { added, retentionDays: options.retentionDays };
}

async function addSearchAttributes(connection: Connection, namespace: string): Promise<string[]> {
  const present = await registered(connection, namespace);
  const wrong = searchAttributes.filter(
    ({ name, type }) => present[name] !== undefined && present[name] !== TYPES[type],
  );
  if (wrong.length > 0) {
    throw new Error(
      `namespace ${namespace} has search attributes of our name with another type: ${wrong.map(({ name, type }) => `${name} should be ${type}`).join(', ')}. ` +
        'Remove them (`temporal operator search-attribute remove`) or use another namespace',
    );
  }
  const missing = searchAttributes.filter(({ name }) => present[name] === undefined);
  if (missing.length === 0) return [];
  try {
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map(({ name, type }) => [name, TYPES[type]])),
    });
  } catch (error) {
    throw cannotRegister(error, namespace, missing);
  }
  await untilUsable(connection, namespace, missing);
  return missing.map(({ name }) => name);
}

async function registered(connection: Connection, namespace: string) {
  try {
    return (await connection.operatorService.listSearchAttributes({ namespace })).customAttributes;
  } catch (error) {
    throw cannotRegister(error, namespace, searchAttributes);
  }
}

function cannotRegister(
  error: unknown,
  namespace: string,
  missing: readonly (typeof searchAttributes)[number][],
): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (!NOT_OURS.includes(code as number)) return error;
  const list = missing
    .map(({ name, type }) => `${name} (${type === 'KEYWORD' ? 'Keyword' : 'KeywordList'})`)
    .join(', ');
  return new Error(
    `we may not register search attributes in namespace ${namespace}. Have its administrator add these ` +
      `(Temporal Cloud: in the namespace's settings, or \`tcld namespace search-attributes add\`): ${list}`,
    { cause: error },
  );
}

/** A frontend knows a new attribute only after its cache is refreshed; until then it refuses runs that carry it. */
async function untilUsable(
  connection: Connection,
  namespace: string,
  missing: readonly { name: string }[],
): Promise<void> {
  const query = missing.map(({ name }) => `${name} IS NULL`).join(' AND ');
  const deadline = Date.now() + VISIBLE_SECONDS * 1000;
  for (;;) {
    try {
      await connection.workflowService.countWorkflowExecutions({ namespace, query });
      return;
    } catch (error) {
      if (Date.now() > deadline)
        throw new Error(`search attributes are registered but not usable after ${VISIBLE_SECONDS} s`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

type Long = NonNullable<temporal.api.namespace.v1.INamespaceConfig['workflowExecutionRetentionTtl']>['seconds'];
/** The type asks for the class of a package of its own; a number below 2^53 is encoded the same. */
const asLong = (value: number) => value as unknown as NonNullable<Long>;
