import type { WorkflowHandle } from '@temporalio/client';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connectClient } from '../../activities/temporal/connection.js';
import { startDevServer } from '../../infra/temporal/dev-server.js';
import { endsWithParent } from '../../infra/temporal/parent-death.js';
import { compiled } from '../../infra/temporal/server-executable.js';
import { holderQuery } from '../../workflows/contracts/lock.js';
import { statusQuery } from '../../workflows/contracts/run.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { lockWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { doctoredBundle } from '../workflows/doctored-bundle.js';
import { smallSystem } from '../workflows/small-system.js';

/** So many runs want the lock at any time. */
const OPEN_RUNS = 5;
/** How long, at the most, a run gets to work on the host before something is killed again: without that nobody would ever hold the lock. Milliseconds. */
const WORK_MS = 10_000;

export interface Chaos {
  kills: { worker: number; terminated: number; cancelled: number };
  /** Kills of a run that held the lock in that moment, and of the worker while one did. */
  killedWhileHolding: { worker: number; terminated: number; cancelled: number };
  /** Runs by how they ended. */
  ended: Record<string, number>;
  /** Runs that worked on the host, in turn. */
  holders: number;
  /** Runs that wrote after another one had taken the host over. */
  twoHolders: string[];
  /** Locks whose holder has ended. */
  staleLocks: string[];
  /** Runs that had not ended two minutes after the last one that did, each with what it does. */
  stuck: string[];
  seconds: number;
}

/**
 * Runs that all want one system, while workers are killed with -9 and runs terminated and cancelled at random, `kills` times in all; every other run
 * that is hit is the one that holds the lock. Between two kills a run gets to work. The ledger that their steps write tells whether two ever worked at
 * the same time.
 */
export async function lockChaos(options: {
  kills: number;
  random: () => number;
  say: (line: string) => void;
}): Promise<Chaos> {
  const { random, say } = options;
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-locks-'));
  const at = (name: string) => path.join(directory, name);
  for (const name of ['systems', 'state']) mkdirSync(at(name));
  writeFileSync(at('systems/shop.yaml'), smallSystem('shop'));
  // The real limit is too long for so many: the same code, with fewer seconds.
  const bundle = doctoredBundle({ "HEARTBEAT_TIMEOUT = '15 seconds'": "HEARTBEAT_TIMEOUT = '3 seconds'" });
  const server = await startDevServer({ directory: at('server'), port: 0, uiPort: 0 });
  const { client, connection } = await connectClient({
    target: { ...server, source: 'test', connection: { address: server.address } },
  });
  let worker: ChildProcess | undefined;
  const startWorker = async (): Promise<void> => {
    const { address, namespace } = server;
    const argument = {
      address,
      namespace,
      bundle,
      systemsDirectory: at('systems'),
      state: at('state'),
      ledger: at('ledger'),
    };
    const child = spawn(
      ...endsWithParent(process.execPath, [compiled('test/faults/lock-worker.js'), JSON.stringify(argument)]),
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    worker = child;
    await new Promise<void>((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => text.includes('serving') && resolve());
      child.once('exit', () => reject(new Error('the worker ended')));
    });
  };
  const killWorker = async (): Promise<void> => {
    const victim = worker;
    worker = undefined;
    if (!victim || victim.exitCode !== null) return;
    const gone = once(victim, 'exit');
    victim.kill('SIGKILL');
    await gone;
  };

  const began = Date.now();
  const kills = { worker: 0, terminated: 0, cancelled: 0 };
  const killedWhileHolding = { worker: 0, terminated: 0, cancelled: 0 };
  const ledgerSize = (): number => statSync(at('ledger'), { throwIfNoEntry: false })?.size ?? 0;
  /** The open run that holds the system now. */
  const holder = async (): Promise<string | undefined> => {
    try {
      const lock = client.workflow.getHandle(lockWorkflowId({ system: 'shop' }));
      const { workflowId } = await client.withDeadline(Date.now() + 2_000, () => lock.query(holderQuery));
      return (await lock.describe()).status.name === 'RUNNING' && open.has(workflowId) ? workflowId : undefined;
    } catch {
      return undefined; // nobody, or nobody there to ask
    }
  };
  const ended: Record<string, number> = {};
  const open = new Map<string, WorkflowHandle>();
  const watching: Promise<void>[] = [];
  let number = 0;
  const fill = async (): Promise<void> => {
    while (open.size < OPEN_RUNS) {
      const workflowId = `run-${number++}`;
      const handle = await client.workflow.start('backup', {
        ...{ taskQueue: WORKFLOW_TASK_QUEUE, workflowId, args: [{ system: 'shop', requester: 'chaos' }] },
      });
      open.set(workflowId, handle);
      const watched = handle
        .result()
        .then(
          () => 'succeeded',
          () => handle.describe().then(({ status }) => status.name.toLowerCase()),
        )
        .then((end) => {
          ended[end] = (ended[end] ?? 0) + 1;
          open.delete(workflowId);
        })
        .catch(() => undefined);
      watching.push(watched);
    }
  };
  try {
    await startWorker();
    let written = 0;
    for (let killed = 0; killed < options.kills; killed++) {
      await fill();
      for (const deadline = Date.now() + WORK_MS; ledgerSize() === written && Date.now() < deadline;) await delay(50);
      await delay(random() * 600);
      const [what, aimed, which] = [random(), random() < 0.5, Math.floor(random() * open.size)];
      const holding = await holder();
      const victim = aimed && holding !== undefined ? holding : [...open.keys()][which];
      const kind = what < 0.2 ? 'worker' : what < 0.8 ? 'terminated' : 'cancelled';
      if (kind === 'worker') {
        await killWorker();
        await startWorker();
      } else {
        const run = open.get(victim ?? '');
        await (kind === 'terminated' ? run?.terminate('chaos') : run?.cancel())?.catch(() => undefined);
      }
      kills[kind] += 1;
      if (holding !== undefined && (kind === 'worker' || victim === holding)) killedWhileHolding[kind] += 1;
      written = ledgerSize();
      if ((killed + 1) % 50 === 0) say(`${killed + 1} of ${options.kills}: ${JSON.stringify({ ...kills, ended })}`);
    }
    // One after the other they get the lock: as long as one ends now and then, none is stuck.
    for (let [left, since] = [open.size, Date.now()]; open.size > 0 && Date.now() < since + 120_000; await delay(200))
      if (open.size < left) [left, since] = [open.size, Date.now()];
    const staleLocks: string[] = [];
    for await (const { workflowId } of client.workflow.list({
      query: "WorkflowType = 'lock' AND ExecutionStatus = 'Running'",
    })) {
      const lock = client.workflow.getHandle(workflowId);
      const holder = await lock.query(holderQuery);
      // The list is a moment behind.
      if ((await lock.describe()).status.name === 'RUNNING' && !open.has(holder.workflowId))
        staleLocks.push(`${workflowId} of ${holder.workflowId}`);
    }
    const { holders, twoHolders } = judgeLedger(existsSync(at('ledger')) ? readFileSync(at('ledger'), 'utf8') : '');
    const stuck = await Promise.all([...open].map(async ([id, run]) => `${id} ${await whatItDoes(run)}`));
    return {
      kills,
      killedWhileHolding,
      ended,
      holders,
      twoHolders,
      staleLocks,
      stuck,
      seconds: (Date.now() - began) / 1000,
    };
  } finally {
    await killWorker();
    await Promise.all([...open.values()].map((run) => run.terminate('the chaos is over').catch(() => undefined)));
    await Promise.all(watching);
    await connection.close();
    await server.stop({ force: true });
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Its phase, what it waits for, and the activities that have not ended. */
async function whatItDoes(run: WorkflowHandle): Promise<string> {
  const { phase, waitingFor = '' } = await run.query(statusQuery);
  const { raw } = await run.describe();
  const pending = raw.pendingActivities?.map(
    ({ activityType, attempt, lastFailure }) =>
      `${activityType?.name} attempt ${attempt} ${lastFailure?.message ?? ''}`,
  );
  return `(${[phase, waitingFor, ...(pending ?? [])].join(', ')})`;
}

/** Every run's lines stand together: a line of a run behind one of a later run is a second holder. Pure. */
export function judgeLedger(text: string): { holders: number; twoHolders: string[] } {
  const order: string[] = [];
  const twoHolders: string[] = [];
  for (const line of text.split('\n').filter((each) => each !== '')) {
    const [run = ''] = line.split(' ');
    if (order.at(-1) === run) continue;
    if (order.includes(run)) twoHolders.push(`${line}, after ${order.at(-1)} had begun`);
    else order.push(run);
  }
  return { holders: order.length, twoHolders };
}
