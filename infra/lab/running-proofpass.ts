// ProofPass as it runs on a host that was set up by hand: made once in a lab of its own, and kept as a layer with the Docker and the
// secrets that go with it.
import { execa } from 'execa';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory } from '../packaging/toolbox.js';
import { builtOnce } from '../packaging/toolbox-cache.js';
import type { LoadedImages } from './container-images.js';
import { command } from './command.js';
import { moveDocker } from './docker-directory.js';
import type { Fixture } from './fixture-layers.js';
import { PROOFPASS_URL } from './git-server.js';
import type { Lab, LabRequest } from './lab-interface.js';
import { ensureApplication } from './proofpass-application.js';
import { ADMINISTRATOR, proofpassSecret, proofpassSecrets } from './proofpass-secrets.js';
import { readState } from './lab-state.js';

const source = fileURLToPath(new URL('./fixtures/proofpass/running', import.meta.url));

/** Another one when what this file or openbao.ts does on the host changes. */
const RECIPE = '3';

export interface RunningProofpass {
  /** Layer over that of the fixture. */
  layer: string;
  /** Holds the host's `docker` and `containerd`. */
  directory: string;
  /** Directory for the lab's secrets: `openbao.json`, and what is in `proofpass`. */
  secrets: string;
}

/**
 * The running application over the fixture's layer; made when the cache has none of this recipe and size.
 * @param start starts the lab in which it is made
 */
export async function ensureRunningProofpass(
  data: string,
  fixture: Fixture,
  images: LoadedImages,
  start: (request: LabRequest) => Promise<Lab>,
): Promise<RunningProofpass> {
  const application = await ensureApplication();
  const hash = createHash('sha256').update([RECIPE, data, images.directory, application.repositories].join('\n'));
  for (const name of readdirSync(source).sort()) hash.update(`${name}\0`).update(readFileSync(path.join(source, name)));
  const directory = await builtOnce(
    path.join(cacheDirectory(), 'lab', `running-${fixture.megabytes}-${hash.digest('hex').slice(0, 12)}`),
    'setting ProofPass up by hand on a host (about 60 s the first time)',
    (temporary) => build(temporary, fixture, start),
    async (temporary) => rmSync(temporary, { recursive: true, force: true }),
  );
  return { layer: path.join(directory, 'layer'), directory, secrets: path.join(directory, 'secrets') };
}

async function build(directory: string, fixture: Fixture, start: (request: LabRequest) => Promise<Lab>): Promise<void> {
  const secrets = path.join(directory, 'secrets');
  mkdirSync(secrets, { recursive: true, mode: 0o700 });
  const { running: _, ...data } = fixture;
  const lab = await start({
    hosts: [{ name: 'app', fixture: data, images: true }],
    systems: ['proofpass'],
    owner: true,
  });
  try {
    const root = path.join(lab.directory, 'hosts/app/root');
    const run = async (argv: string[], stdin = ''): Promise<string> => {
      const { exitCode, stdout, stderr } = await lab.exec('app', argv, { stdin });
      if (exitCode !== 0) throw new Error(`${argv.join(' ')} failed:\n${(stdout + stderr).slice(-4000)}`);
      return stdout;
    };
    cpSync(source, path.join(root, 'opt/running'), { recursive: true });
    await run(['ln', '-s', '/opt/running', '/run/running']);
    const state = readState(lab.name);
    if (state === undefined) throw new Error(`the lab ${lab.name} is gone`);
    const keys = (['stellar-issuer-secret', 'stellar-distribution-secret'] as const).map((name) =>
      proofpassSecret(state, name),
    );
    await run(['bash', '/run/running/install.sh', PROOFPASS_URL], `${keys.join('\n')}\n`);
    await lab.openbao('app', '0.0.0.0'); // for everybody, as the manual publishes it
    cpSync(path.join(lab.secretsDirectory, 'openbao/app.json'), path.join(secrets, 'openbao.json'));
    cpSync(proofpassSecrets(state), path.join(secrets, 'proofpass'), { recursive: true });
    await run(['bash', '/run/running/protect.sh']);
    await run(['systemctl', 'enable', '--now', '--quiet', 'proofpass-api.service', 'proofpass-platform.service']);
    await run(['timeout', '30', 'sh', '-c', 'until curl -sf http://127.0.0.1:3000/health; do sleep 0.2; done']);
    await upload(run, proofpassSecret(state, 'admin-password'));
    await run(['rm', '-rf', '/opt/running']);

    // In order, so that the database and OpenBao are closed; then the disk becomes a layer.
    await lab.snapshot('made');
    const made = path.join(lab.directory, 'snapshots/made/hosts/app');
    await lab.poweroff('app');
    rmSync(path.join(made, 'upper/var/log/journal'), { recursive: true, force: true });
    await command(['mv', path.join(made, 'upper'), path.join(directory, 'layer')]);
    for (const name of ['docker', 'containerd']) await moveDocker(path.join(made, name), path.join(directory, name));
    chmodSync(path.join(directory, 'layer'), 0o755);
    await execa('sync', ['-f', directory]);
  } finally {
    await lab.down();
  }
}

/** What users have uploaded: three files that lie beside the code. */
async function upload(run: (argv: string[], stdin?: string) => Promise<string>, password: string): Promise<void> {
  const curl = ['curl', '-sf', '--max-time', '20'];
  const login = JSON.stringify({ email: ADMINISTRATOR, password });
  const session = await run([...curl, '-d', '@-', 'http://127.0.0.1:4000/auth/login'], login);
  const { token } = JSON.parse(session) as { token: string };
  for (const n of [1, 2, 3]) {
    const body = `data = "upload ${n} of a user"`;
    await run(
      [...curl, '--config', '-'],
      `url = "http://127.0.0.1:4000/uploads"\nheader = "Authorization: Bearer ${token}"\n${body}\n`,
    );
  }
}
