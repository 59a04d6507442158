// A lab's own certificate authority: what it signs is good for the names of the systems in this lab, and nowhere else.
import { randomBytes } from 'node:crypto';
import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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

/** File of the one certificate for all names, as `certbot --nginx -d ONE -d OTHER` gets it. */
const FOR_ALL = 'all-names';

const directory = (state: LabState): string => path.join(secretsDirectory(state), 'tls');

/** The authority's certificate, PEM. */
export const authorityFile = (state: LabState): string => path.join(directory(state), 'ca.crt');

/** Chain and key of a name, PEM: what `file:tls/NAME.crt` and `file:tls/NAME.key` refer to. */
export const certificateFiles = (state: LabState, name: string): { chain: string; key: string } => ({
  chain: path.join(directory(state), `${name}.crt`),
  key: path.join(directory(state), `${name}.key`),
});

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Makes the authority, a certificate for each name and one for all of them, good for 90 days. */
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
  const names = namesOf(state);
  await Promise.all([...names.map((name) => sign(state, name, [name])), sign(state, FOR_ALL, names)]);
}

async function sign(state: LabState, file: string, names: string[]): Promise<void> {
  if (names.length === 0) return;
  const { chain, key } = certificateFiles(state, file);
  const alternative = names.map((name) => `DNS:${name}`).join(',');
  const extensions = [`subjectAltName=${alternative}`, 'basicConstraints=CA:FALSE', 'extendedKeyUsage=serverAuth'];
  const request = await command([
    ...(['openssl', 'req', '-new', '-subj', `/CN=${names[0]}`] as const),
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

/**
 * Puts chain and key of each name where certbot keeps them, and both in one file where HAProxy reads them. A host that has one lineage for
 * all names, as its manual makes it, keeps that one.
 */
export function installCertificates(state: LabState, root: string): void {
  const names = namesOf(state);
  const live = path.join(root, 'etc/letsencrypt/live');
  const there = names.filter((name) => existsSync(path.join(live, name)));
  const together = there.length === 1 && names.length > 1;
  for (const name of together ? there : names) {
    const { chain, key } = certificateFiles(state, together ? FOR_ALL : name);
    mkdirSync(path.join(live, name), { recursive: true });
    writeFileSync(path.join(live, name, 'fullchain.pem'), readFileSync(chain));
    writeFileSync(path.join(live, name, 'privkey.pem'), readFileSync(key), { mode: 0o600 });
  }
  const bundles = path.join(root, 'etc/haproxy/certs');
  mkdirSync(bundles, { recursive: true });
  for (const name of names) {
    const { chain, key } = certificateFiles(state, name);
    const bundle = Buffer.concat([readFileSync(chain), readFileSync(key)]);
    writeFileSync(path.join(bundles, `${name}.pem`), bundle, { mode: 0o600 });
  }
}
