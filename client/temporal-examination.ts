import type { Examination, Finding } from '../activities/doctor/findings.js';
import { searchAttributes } from '../workflows/contracts/search-attributes.js';
import { explain } from './exit-codes.js';
import { withTemporal, type TemporalAccess } from './temporal-access.js';
import { workersSeen } from './workers-seen.js';

/** Looks at Temporal as the command sees it: does it answer, does it know our search attributes, is a worker there. Reads only. */
export async function examineTemporal(
  env: Readonly<Record<string, string | undefined>>,
  sites: readonly string[],
): Promise<Examination> {
  const about = 'Temporal';
  try {
    return await withTemporal(env, async (access) => ({
      about,
      findings: [
        {
          id: 'temporal',
          title: 'answers',
          state: 'ok',
          found: `${access.target.address}, namespace ${access.target.namespace} (from ${access.target.source})`,
        },
        await attributesFinding(access),
        ...(await workersSeen(access, ['main', ...sites])).map(({ taskQueue, kind, workers }): Finding => {
          const title = `worker for ${taskQueue} (${kind === 'workflow' ? 'the runs' : 'the work on hosts'})`;
          const id = `worker-${taskQueue}`;
          if (workers.length > 0)
            return {
              id,
              title,
              state: 'ok',
              found: workers.map(({ identity }) => identity.replace(/^[^@]*@/, '')).join(', '),
            };
          return {
            id,
            title,
            state: 'missing',
            found: 'nobody asks for its tasks',
            remedy: 'Start a worker: guardia dev, or the guardia worker service',
          };
        }),
      ],
    }));
  } catch (error) {
    const { message, remedy } = explain(error);
    return {
      about,
      findings: [
        {
          id: 'temporal',
          title: 'answers',
          state: 'missing',
          found: message,
          ...(remedy === undefined ? {} : { remedy }),
        },
      ],
    };
  }
}

/** Asked for by a query that names them: that needs no right to administer the namespace. */
async function attributesFinding(access: TemporalAccess): Promise<Finding> {
  const { client, target } = access;
  const unknown: string[] = [];
  for (const { name } of searchAttributes) {
    try {
      await client.workflowService.countWorkflowExecutions({ namespace: target.namespace, query: `${name} IS NULL` });
    } catch (error) {
      // INVALID_ARGUMENT: the namespace has no such attribute.
      if ((error as { code?: unknown }).code !== 3) throw error;
      unknown.push(name);
    }
  }
  const base = { id: 'search-attributes', title: 'search attributes' };
  if (unknown.length === 0) return { ...base, state: 'ok', found: `${searchAttributes.length} registered` };
  return {
    ...base,
    state: 'missing',
    found: `not registered: ${unknown.join(', ')}`,
    remedy:
      'guardia dev registers them on the Temporal that it uses; elsewhere: temporal operator search-attribute create',
  };
}
