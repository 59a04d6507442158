// OpenBao on a host of a lab, in the manual's container: started, initialised, unsealed and seeded from here.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { say, ToolboxError } from '../packaging/toolbox-cache.js';
import { captured, execArguments, split, type Output } from './host-access.js';
import { hostGroupOf, type HostState, type LabState, secretsDirectory } from './lab-state.js';
import { leaderOf } from './machine.js';
import { ADMINISTRATOR, proofpassSecret } from './proofpass-secrets.js';

/** What is known of the OpenBao of a host, and nowhere else than in the lab's secrets. */
interface Custody {
  /** Address that it listens on, on the host. */
  address: string;
  shares: string[];
  rootToken: string;
  roleId: string;
  secretId: string;
  /** The application's token: from its AppRole, for 720 hours. */
  token: string;
}

const SHARES = 5;
const THRESHOLD = 3;
const LEAST_TTL = 7 * 24 * 3600;

const directory = (state: LabState): string => path.join(secretsDirectory(state), 'openbao');
const file = (state: LabState, host: HostState): string => path.join(directory(state), `${host.name}.json`);

function writeCustody(state: LabState, host: HostState, custody: Custody): void {
  mkdirSync(directory(state), { recursive: true, mode: 0o700 });
  writeFileSync(file(state, host), JSON.stringify(custody), { mode: 0o600 });
  writeFileSync(path.join(directory(state), `${host.name}.token`), `${custody.token}\n`, { mode: 0o600 });
}

/** What is kept of the OpenBao of a host; undefined when the lab started none there. */
export function custodyOf(state: LabState, host: HostState): Custody | undefined {
  return existsSync(file(state, host)) ? (JSON.parse(readFileSync(file(state, host), 'utf8')) as Custody) : undefined;
}

const inHost = (state: LabState, host: HostState, argv: readonly string[], stdin?: string): Promise<Output> =>
  captured(...split(execArguments(state, host, argv)), stdin);

/** Asks OpenBao from its own host. Token and body go by standard input. */
async function ask(
  state: LabState,
  host: HostState,
  address: string,
  request: { method?: string; path: string; token?: string; body?: object },
): Promise<{ status: number; body: Record<string, unknown> }> {
  const lines = [
    `url = "http://${address}:8200/v1/${request.path}"`,
    `request = "${request.method ?? 'GET'}"`,
    'write-out = "\\n%{http_code}"',
    ...(request.token === undefined ? [] : [`header = "X-Vault-Token: ${request.token}"`]),
    ...(request.body === undefined ? [] : [`data = ${JSON.stringify(JSON.stringify(request.body))}`]),
  ];
  const argv = ['curl', '--silent', '--max-time', '10', '--config', '-'];
  const { stdout } = await inHost(state, host, argv, lines.join('\n'));
  const cut = stdout.lastIndexOf('\n');
  const text = stdout.slice(0, cut);
  return {
    status: Number(stdout.slice(cut + 1)),
    body: text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {},
  };
}

/** Starts the manual's container with its file storage and, when it is new, initialises and seeds it. Idempotent. */
export async function startOpenbao(state: LabState, host: HostState, address = '127.0.0.1'): Promise<void> {
  const settings = {
    storage: { file: { path: '/vault/data' } },
    listener: [{ tcp: { address: '0.0.0.0:8200', tls_disable: true } }],
    default_lease_ttl: '168h',
    max_lease_ttl: '720h',
    ui: true,
  };
  const container = [
    ...['docker', 'run', '--detach', '--name', 'openbao', '--restart', 'always', '--publish', `${address}:8200:8200`],
    ...[
      '--volume',
      '/opt/proofpass/openbao/data:/vault/data',
      '--volume',
      '/opt/proofpass/openbao/config:/vault/config',
    ],
    ...['--env', `VAULT_LOCAL_CONFIG=${JSON.stringify(settings)}`, 'openbao/openbao:latest', 'server'],
  ];
  const started = await inHost(state, host, [
    ...['bash', '-c', 'docker container inspect openbao > /dev/null 2>&1 || "$@"', 'start', ...container],
  ]);
  if (started.exitCode !== 0) {
    throw new ToolboxError(
      `OpenBao did not start on ${host.name}: ${started.stderr.trim()}\nIt needs a Docker that runs there, with the lab's images: a bare host has them, once docker.io is installed.`,
    );
  }
  await answers(state, host, address);
  if (custodyOf(state, host) === undefined) await initialise(state, host, address);
  await unsealOpenbao(state, host);
  const token = custodyOf(state, host)?.token;
  if (token !== undefined) await giveToken(state, token);
}

/** Status of `sys/seal-status` once it answers; throws when it does not within 15 seconds. */
async function answers(state: LabState, host: HostState, address: string): Promise<Record<string, unknown>> {
  const until = Date.now() + 15_000;
  for (;;) {
    const { status, body } = await ask(state, host, address, { path: 'sys/seal-status' });
    if (status === 200) return body;
    if (Date.now() > until) throw new Error(`OpenBao on ${host.name} does not answer`);
    await sleep(50);
  }
}

async function initialise(state: LabState, host: HostState, address: string): Promise<void> {
  const made = await ask(state, host, address, {
    method: 'PUT',
    path: 'sys/init',
    body: { secret_shares: SHARES, secret_threshold: THRESHOLD },
  });
  if (made.status !== 200) throw new Error(`OpenBao on ${host.name} could not be initialised (${made.status})`);
  const shares = made.body['keys'] as string[];
  const custody = {
    address,
    shares,
    rootToken: made.body['root_token'] as string,
    roleId: '',
    secretId: '',
    token: '',
  };
  writeCustody(state, host, custody);
  await unseal(state, host, custody);

  const asRoot = async (method: string, at: string, body?: object): Promise<Record<string, unknown>> => {
    const until = Date.now() + 10_000;
    for (;;) {
      const answer = await ask(state, host, address, {
        ...{ method, path: at, token: custody.rootToken },
        ...(body === undefined ? {} : { body }),
      });
      if (answer.status === 200 || answer.status === 204) return answer.body;
      // A new mount of version 2 is not ready at once.
      if (Date.now() > until || answer.status === 403)
        throw new Error(`OpenBao on ${host.name}: ${method} ${at} was answered ${answer.status}`);
      await sleep(50);
    }
  };
  await asRoot('POST', 'sys/mounts/proofpass', { type: 'kv', options: { version: '2' } });
  await asRoot('POST', 'proofpass/data/stellar', {
    data: {
      issuer_secret: proofpassSecret(state, 'stellar-issuer-secret'),
      distribution_secret: proofpassSecret(state, 'stellar-distribution-secret'),
    },
  });
  await asRoot('POST', 'proofpass/data/administrator', {
    data: { email: ADMINISTRATOR, password: proofpassSecret(state, 'admin-password') },
  });
  const policy = 'path "proofpass/data/*" { capabilities = ["read"] }\n';
  await asRoot('PUT', 'sys/policies/acl/proofpass', { policy });
  await asRoot('POST', 'sys/auth/approle', { type: 'approle' });
  await asRoot('POST', 'auth/approle/role/proofpass', { token_policies: ['proofpass'], token_ttl: '720h' });
  const role = (await asRoot('GET', 'auth/approle/role/proofpass/role-id'))['data'] as { role_id: string };
  const secret = (await asRoot('POST', 'auth/approle/role/proofpass/secret-id'))['data'] as { secret_id: string };
  writeCustody(state, host, { ...custody, roleId: role.role_id, secretId: secret.secret_id });
}

async function unseal(state: LabState, host: HostState, { address, shares }: Custody): Promise<void> {
  for (const key of shares.slice(0, THRESHOLD))
    await ask(state, host, address, { method: 'PUT', path: 'sys/unseal', body: { key } });
}

/** Unseals the OpenBao that the lab started on the host, and renews the application's token before its end. Idempotent; nothing where there is none. */
export async function unsealOpenbao(state: LabState, host: HostState): Promise<void> {
  const custody = custodyOf(state, host);
  if (custody === undefined) return;
  let sealed: boolean;
  try {
    sealed = (await answers(state, host, custody.address))['sealed'] === true;
  } catch (error) {
    // Whoever took it away in a test knows; whoever did not reads it here.
    say(error instanceof Error ? error.message : String(error));
    return;
  }
  if (sealed) await unseal(state, host, custody);
  const { body } = await ask(state, host, custody.address, { path: 'auth/token/lookup-self', token: custody.token });
  const ttl = (body['data'] as { ttl?: number } | undefined)?.ttl ?? 0;
  if (ttl > LEAST_TTL) return;
  const login = await ask(state, host, custody.address, {
    method: 'POST',
    path: 'auth/approle/login',
    body: { role_id: custody.roleId, secret_id: custody.secretId },
  });
  const token = (login.body['auth'] as { client_token: string } | undefined)?.client_token;
  if (token === undefined) throw new Error(`OpenBao on ${host.name} gave the application no token (${login.status})`);
  writeCustody(state, host, { ...custody, token });
  await giveToken(state, token);
}

/** Puts the token into the `.env` of every host that has one: of a plain checkout, or of releases. */
async function giveToken(state: LabState, token: string): Promise<void> {
  const write = `
    read -r token
    for file in /opt/proofpass/shared/.env /opt/proofpass/platform/.env; do
      [ -f "$file" ] && [ ! -L "$file" ] || continue
      case $(cat "$file") in *"VAULT_TOKEN=$token"*) continue ;; esac
      grep -q '^VAULT_TOKEN=' "$file" || echo VAULT_TOKEN= >> "$file"
      sed -i "s|^VAULT_TOKEN=.*|VAULT_TOKEN=$token|" "$file"
      systemctl try-restart proofpass-api.service
    done`;
  for (const host of state.hosts) {
    if (leaderOf(hostGroupOf(state.index, host)) === undefined) continue;
    await inHost(state, host, ['bash', '-c', write], `${token}\n`);
  }
}
