import type { BackupLab } from '../backup/harness.js';

/** Acts while the releases of a host are on a file system with room for a few megabytes more. The releases are in their place again afterwards. */
export async function onFullDisk<T>(here: BackupLab, host: string, act: () => Promise<T>): Promise<T> {
  await here.shell(
    `set -e; cd /opt/proofpass; size=$(du -sk releases | cut -f1); mkdir /tmp/aside
    mv releases/* /tmp/aside; [ ! -e releases/.mirror.git ] || mv releases/.mirror.git /tmp/aside
    mount -t tmpfs -o size=$((size + 3000))k,mode=755 tmpfs releases; chown proofpass: releases; cp -a /tmp/aside/. releases/`,
    host,
  );
  try {
    return await act();
  } finally {
    await here.shell(
      `set -e; cd /opt/proofpass; umount -l releases; mv /tmp/aside/* releases/; [ ! -e /tmp/aside/.mirror.git ] || mv /tmp/aside/.mirror.git releases/
      rmdir /tmp/aside; systemctl restart proofpass-api proofpass-platform
      timeout 60 bash -c 'until curl -sf -o /dev/null http://127.0.0.1:3000/health; do sleep 0.2; done'`,
      host,
    );
  }
}
