import { execFileSync } from 'node:child_process';

/** Why no lab can run here, or undefined when one can. */
export function canRunLab(): string | undefined {
  if (process.platform !== 'linux') return `the lab needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return 'the lab needs root';
  try {
    execFileSync('unshare', ['--mount', '--net', '--pid', '--fork', 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'this machine does not allow namespaces';
  }
}
