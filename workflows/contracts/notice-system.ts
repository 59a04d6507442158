import type { System } from './system.js';

/** What of a system the sending of a notice needs. */
export type NoticeSystem = Pick<System, 'system' | 'notifications' | 'objectStore'> & {
  mail?: System['mail'];
  backup: Pick<System['backup'], 'prefix'>;
};

/** That part of a system, so that a run's history does not hold the whole inventory once more for each notice. Pure. */
export function noticeSystem({ system, notifications, objectStore, backup, mail }: NoticeSystem): NoticeSystem {
  return {
    system,
    notifications,
    objectStore: { ...objectStore, keys: { worker: objectStore.keys.worker, hosts: {} } },
    backup: { prefix: backup.prefix },
    ...(mail ? { mail } : {}),
  };
}
