// A process that makes a lab of its own and then waits to be killed: `node .build/test/lab/lab-owner.js NAME`.
import { startLab } from '../../infra/lab/lab.js';

await startLab({ name: process.argv[2] ?? 'owned', hosts: [{ name: 'app' }], systems: [], owner: true });
console.log('up');
setInterval(() => {}, 60_000);
