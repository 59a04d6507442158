// `node sdk-download.js DIRECTORY VERSION` lets the SDK put DIRECTORY/temporal-VERSION there. Ends with code 0 when the file is there.
// The SDK offers the download only together with starting a server: the server is stopped at once.
import { existsSync } from 'node:fs';
import path from 'node:path';

const [directory, version] = process.argv.slice(2);
if (directory === undefined || version === undefined) throw new TypeError('usage: sdk-download DIRECTORY VERSION');
const file = path.join(directory, `temporal-${version}`);
try {
  // Not a dependency in production, where no development server is started.
  const { TestWorkflowEnvironment } = await import('@temporalio/testing');
  const environment = await TestWorkflowEnvironment.createLocal({
    server: { executable: { type: 'cached-download', downloadDir: directory, version, ttl: '3650 days' } },
  });
  await environment.teardown();
} catch (error) {
  // A server that needs longer than the SDK's five seconds for its first start has been downloaded all the same.
  if (!existsSync(file)) {
    process.stderr.write(`${innermost(error).replaceAll(/\s+/g, ' ')}\n`);
    process.exitCode = 1;
  }
}

/** The end of the chain of reasons, which stands in one message, the outermost first. */
function innermost(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split(': ').slice(-3).join(': ');
}
