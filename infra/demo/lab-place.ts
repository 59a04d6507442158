import { startLab } from '../lab/lab.js';
import type { Place } from './place.js';

/** One host of the lab with ProofPass on it, and the lab's object store. */
export async function onLab(megabytes: number): Promise<Place> {
  const lab = await startLab({
    hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes } }],
    systems: ['proofpass'],
    owner: true,
  });
  return {
    environment: lab.environment,
    links: [
      `host:    ${lab.hosts['app']?.address} (npm run lab -- --lab ${lab.name} ssh app)`,
      `bucket:  ${lab.s3.endpoint}/${lab.s3.bucket}`,
    ],
    down: () => lab.down(),
  };
}
