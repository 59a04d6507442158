// A worker in small, for tests that kill it: sends a file by standard input, as `writeFile` does, and keeps it in the journal.
import { readFileSync } from 'node:fs';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool } from '../../../activities/hosts/ssh-pool.js';
import type { HostTarget } from '../../../workflows/contracts/host-target.js';

const target = JSON.parse(process.env['GUARDIA_TEST_TARGET'] ?? '') as HostTarget;
const [path = '', bytes = '0', run = ''] = process.argv.slice(2);
const ssh = createSshPool({
  readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
});
const hosts = createHosts({ ssh, workerStateDirectory: '/nonexistent', scrub: (text) => text });
const content = Buffer.alloc(Number(bytes), 'new ');
await Promise.all([
  hosts.journalPut(target, { run, step: 'write', content }),
  hosts.run(target, {
    argv: ['/bin/sh', '-c', 'cat >"$1.draft" && mv "$1.draft" "$1"', 'write', path],
    stdin: content,
  }),
]);
ssh.close();
