// A lab's own certificate authority: what it signs is good for the names of the systems in this lab, and nowhere else.
import { randomBytes } from 'node:crypto';
import { appendFileSync, chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { command } from './command.js';
import { type HostState, type LabState, secretsDirectory } from './lab-state.js';

/** Public names of the systems. */
const NAMES: Record<string, string[]> = { proofpass: ['api.proofpass.test', 'platform.proofpass.test'] };

export const namesOf = (state: LabState): string[] => state.systems.flatMap((system) => NAMES[system] ?? []);

/** Host that the names lead to: the balancer where there is one, else the application's. */
export function entranceOf(state: LabState): HostState | undefined {
  const named = ['balancer', 'app'].flatMap((name) => state.hosts.find((host) => host.name === name) ?? []);
  return named[0] ?? state.hosts[0];
}

const directory = (state: LabState): string => path.join(secretsDirectory(state), 'tls');

/** The authority's certificate, PEM. */
export const authorityFile = (state: LabState): string => path.join(directory(state), 'ca.crt');

/** Chain and key of a name, PEM: what `file:tls/NAME.crt` and `file:tls/NAME.key` refer to. */
export const certificateFiles = (state: LabState, name: string): { chain: string; key: string } => ({
  chain: path.join(directory(state), `${name}.crt`),
  key: path.join(directory(state), `${name}.key`),
});

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Makes the authority and a certificate for each name, good for 90 days. */
export async function makeCertificates(state: LabState): Promise<void> {
  const at = directory(state);
  mkdirSync(at, { recursive: true, mode: 0o700 });
  const authority = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign'];
  await command([
    ...(['openssl', 'req', '-x509', '-days', '3650', '-subj', `/CN=guardia lab ${state.name}`] as const),
    ...newKey,
    ...authority.flatMap((extension) => ['-addext', extension]),
    ...['-keyout', path.join(at, 'ca.key'), '-out', authorityFile(state)],
  ]);
  // No secret, but it lies among them, and is referred to as they are.
  chmodSync(authorityFile(state), 0o600);
  await Promise.all(namesOf(state).map((name) => sign(state, name)));
}

async function sign(state: LabState, name: string): Promise<void> {
  const { chain, key } = certificateFiles(state, name);
  const extensions = [`subjectAltName=DNS:${name}`, 'basicConstraints=CA:FALSE', 'extendedKeyUsage=serverAuth'];
  const request = await command([
    ...(['openssl', 'req', '-new', '-subj', `/CN=${name}`] as const),
    ...newKey,
    ...extensions.flatMap((extension) => ['-addext', extension]),
    ...['-keyout', key],
  ]);
  const signed = await command(
    [
      ...(['openssl', 'x509', '-req', '-days', '90', '-copy_extensions', 'copy'] as const),
      ...['-set_serial', `0x${randomBytes(16).toString('hex')}`],
      ...['-CA', authorityFile(state), '-CAkey', path.join(directory(state), 'ca.key')],
    ],
    { stdin: request },
  );
  const certificate = signed.slice(signed.indexOf('-----BEGIN'));
  writeFileSync(chain, `${certificate}\n` + readFileSync(authorityFile(state), 'utf8'), { mode: 0o600 });
}

/** Makes the programs of a host, whose root is mounted, trust the authority. */
export function trustAuthority(state: LabState, root: string): void {
  const certificate = readFileSync(authorityFile(state), 'utf8');
  writeFileSync(path.join(root, 'usr/local/share/ca-certificates/guardia-lab.crt'), certificate);
  appendFileSync(path.join(root, 'etc/ssl/certs/ca-certificates.crt'), certificate);
}

/** Puts chain and key of each name where certbot keeps them, and both in one file where HAProxy reads them. */
export function installCertificates(state: LabState, root: string): void {
  for (const name of namesOf(state)) {
    const { chain, key } = certificateFiles(state, name);
    const live = path.join(root, 'etc/letsencrypt/live', name);
    mkdirSync(live, { recursive: true });
    writeFileSync(path.join(live, 'fullchain.pem'), readFileSync(chain));
    writeFileSync(path.join(live, 'privkey.pem'), readFileSync(key), { mode: 0o600 });
    const bundles = path.join(root, 'etc/haproxy/certs');
    mkdirSync(bundles, { recursive: true });
    writeFileSync(path.join(bundles, `${name}.pem`), Buffer.concat([readFileSync(chain), readFileSync(key)]), {
      mode: 0o600,
    });
  }
}
