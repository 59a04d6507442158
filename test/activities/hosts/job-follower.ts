// A worker in small, for tests that kill it: starts or attaches to one job, prints what it sees, and its growth in MB.
import { readFileSync } from 'node:fs';
import { createHosts } from '../../../activities/hosts/hosts.js';
import { createSshPool } from '../../../activities/hosts/ssh-pool.js';
import type { HostTarget } from '../../../workflows/contracts/host-target.js';

const { id, script, timeoutSeconds } = JSON.parse(process.argv[2] ?? '') as {
  id: string;
  script: string;
  timeoutSeconds: number;
};
const target = JSON.parse(process.env['GUARDIA_TEST_TARGET'] ?? '') as HostTarget;
const ssh = createSshPool({
  readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
});
const hosts = createHosts({
  ssh,
  workerStateDirectory: process.env['GUARDIA_TEST_STATE'] ?? '',
  scrub: (text) => text,
});

await hosts.run(target, { argv: ['true'] });
const before = process.memoryUsage.rss();
let peak = before;
const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 50);
const result = await hosts.job(
  target,
  { id, command: { script, args: [] }, timeoutSeconds },
  { onPosition: (position) => process.stdout.write(`${JSON.stringify(position)}\n`) },
);
clearInterval(watch);
process.stdout.write(`result ${result.stdout.trim()}\ngrown ${Math.ceil((peak - before) / 1e6)}\n`);
ssh.close();
