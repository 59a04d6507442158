/** A valid system with nothing left open, as text: the hosts `app` and `db` and a bucket. No two share a machine. */
export const smallSystem = (name: string, { address = `app.${name}.example`, bucket = 'backups' } = {}): string =>
  `system: ${name}
title: A small system
timezone: UTC
hosts:
  app:
    connection: { address: ${address}, user: guardia, identity: file:ssh/id, hostKeys: ['ssh-ed25519 AAAA'] }
  db:
    connection: { address: db.${name}.example, user: guardia, identity: file:ssh/id, hostKeys: ['ssh-ed25519 AAAA'] }
objectStore:
  provider: other
  endpoint: https://s3.${name}.example
  bucket: ${bucket}
  keys:
    worker: { accessKeyId: env:WORKER_ID, secretAccessKey: file:s3/worker }
    hosts: {}
backup:
  recipients: { unset: its recipients }
  identity: file:age/identity
`;
