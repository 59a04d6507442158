// Holds a lock until it is killed: `node .build/test/lab/lock-holder.js FILE`.
import { withLock } from '../../infra/packaging/toolbox-cache.js';

await withLock(process.argv[2] ?? '', async () => {
  console.log('held');
  await new Promise((resolve) => setTimeout(resolve, 600_000));
});
