import { spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { startLab } from '../../infra/lab/lab.js';
import { ensurePostgresServer, tools } from '../../infra/packaging/toolbox.js';
import { startPostgres, startProductionServer } from '../../infra/temporal/production-server.js';
import { endsWithParent } from '../../infra/temporal/parent-death.js';
import { compiled } from '../../infra/temporal/server-executable.js';

const RESULT = fileURLToPath(new URL('../../../test/campaigns/temporal-on-postgresql.md', import.meta.url));

/**
 * One backup, and one more whose worker is killed in mid-run, on Temporal as in production: the server of the pinned version on
 * PostgreSQL, mutual TLS, the very configuration that compose.yaml mounts. Writes what came of it; returns whether both were good.
 */
export async function temporalOnPostgresql({ say }: { say: (line: string) => void }): Promise<boolean> {
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-production-'));
  // The user postgres has to pass through it.
  chmodSync(directory, 0o711);
  const ends: (() => Promise<unknown> | void)[] = [() => rmSync(directory, { recursive: true, force: true })];
  try {
    await ensurePostgresServer();
    const postgres = await startPostgres(path.join(directory, 'postgres'));
    ends.push(() => postgres.stop());
    const server = await startProductionServer({ directory: path.join(directory, 'temporal'), postgres, log: say });
    ends.push(() => server.stop());
    const lab = await startLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 300 } }],
      systems: ['proofpass'],
      owner: true,
    });
    ends.push(() => lab.down());
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: directory,
      LANG: 'C.UTF-8',
      GUARDIA_STATE: directory,
      ...server.env,
      ...lab.environment,
    };
    const startWorker = () => {
      const log = openSync(path.join(directory, 'worker.log'), 'a');
      const child = spawn(...endsWithParent(process.execPath, [compiled('workers/main.js')]), {
        env,
        stdio: ['ignore', log, log],
      });
      closeSync(log);
      return { child, ended: new Promise<void>((resolve) => child.on('exit', () => resolve())) };
    };
    let worker = startWorker();
    ends.push(async () => {
      worker.child.kill('SIGTERM');
      await worker.ended;
    });
    const backup = (id: string) =>
      execa(process.execPath, [compiled('client/main.js'), 'run', 'backup', 'proofpass', '--id', id], {
        env,
        extendEnv: false,
        reject: false,
        all: true,
      });
    const lines: string[] = [];
    const tell = (what: string, result: { exitCode?: number | undefined; all: string }, seconds: number): boolean => {
      const good = result.exitCode === 0 && /state: verified/.test(result.all);
      const line = `| ${what} | ${good ? 'succeeded, verified' : `exit code ${result.exitCode}`} | ${seconds.toFixed(1)} s |`;
      lines.push(line);
      say(line);
      if (!good) say(`${result.all}\n${readFileSync(path.join(directory, 'worker.log'), 'utf8').slice(-4000)}`);
      return good;
    };
    let began = Date.now();
    let good = tell('a backup', await backup('plain'), (Date.now() - began) / 1000);
    began = Date.now();
    const killed = backup('killed');
    await delay(4000);
    worker.child.kill('SIGKILL');
    await worker.ended;
    worker = startWorker();
    good = tell('a backup whose worker is killed after 4 s', await killed, (Date.now() - began) / 1000) && good;
    writeFileSync(
      RESULT,
      `# Backups on Temporal with PostgreSQL

\`npm run campaign -- temporal-on-postgresql\`: the server of version ${tools['temporal-server'].version}, built from its Go module, on PostgreSQL 15 with
mutual TLS and the configuration of infra/temporal/production; a lab host with 300 MB of ProofPass.

| run | result | took |
|---|---|---|
${lines.join('\n')}
`,
    );
    return good;
  } finally {
    for (const end of ends.reverse()) await end();
  }
}
