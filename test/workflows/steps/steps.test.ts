import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { blockIn, BrokenBlock, withBlock, withoutBlock } from '../../../workflows/contracts/managed-block.js';
import type { ServerStates } from '../../../workflows/contracts/balancer.js';
import type { Call, Step } from '../../../workflows/contracts/plan.js';
import { drain, pace, ready } from '../../../workflows/steps/balancer.js';
import { block, directory, file, noFile, symlink } from '../../../workflows/steps/file.js';
import { applied, unit } from '../../../workflows/steps/units.js';

const owned = { mode: '0644', owner: 'root', group: 'root' };
const why = 'because';

describe('steps of files', () => {
  test('are none where the host is as wanted', () => {
    expect([
      ...file({ type: 'file', ...owned, same: true }, { path: '/a', content: 'x', ...owned, why }),
      ...file({ type: 'file', ...owned, text: 'x' }, { path: '/a', content: 'x', ...owned, why }),
      ...directory({ type: 'directory', ...owned }, { path: '/a', ...owned, why }),
      ...symlink({ type: 'symlink', target: 'b' }, { path: '/a', target: 'b', why }),
      ...noFile({ type: 'absent' }, { path: '/a', why }),
      ...block(
        { type: 'file', text: withBlock('a\n', { name: 'n', comment: '#', at: 'end' }, 'x\n') },
        { path: '/a', name: 'n', comment: '#', at: 'end', content: 'x\n', why },
      ),
    ]).toEqual([]);
  });

  test('take a link to a directory as it is wanted, and name every other one', () => {
    const link = { type: 'symlink' as const, mode: '0777', owner: 'root', group: 'root', target: '/data/a' };
    const wanted = { path: '/a', ...owned, why, host: 'app' };
    expect(directory({ ...link, leadsTo: owned }, wanted)).toEqual([]);
    expect(() => directory({ ...link, leadsTo: { ...owned, owner: 'app' } }, wanted)).toThrow(
      '/a on app is a link to /data/a, a directory of 0644 app:root, not 0644 root:root. Give it that by hand: chown root:root and chmod 0644',
    );
    expect(() => directory(link, wanted)).toThrow('/a on app is a link to /data/a, which is no directory. Put');
    expect(() => directory({ type: 'file', ...owned }, wanted)).toThrow('/a on app is no directory');
  });

  test('show what changes as a diff', () => {
    const [step] = file(
      { type: 'file', ...owned, mode: '0600', same: false, text: 'a\nb\nc\nd\n' },
      { path: '/etc/x.conf', content: 'a\nb\nC\nd\n', ...owned, why },
    );
    expect(step).toMatchObject({
      id: 'write-etc-x-conf',
      title: 'change /etc/x.conf',
      do: { activity: 'writeFile' },
      undo: { activity: 'restorePath', with: { path: '/etc/x.conf' } },
    });
    expect(step?.diff).toBe(
      '# /etc/x.conf: 0600 root:root becomes 0644 root:root\n--- /etc/x.conf\n+++ /etc/x.conf\n@@ -1,4 +1,4 @@\n a\n b\n-c\n+C\n d',
    );
    const [made] = file({ type: 'absent' }, { path: '/n', content: 'x\n', ...owned, why });
    expect(made).toMatchObject({
      title: 'write /n',
      diff: '# 0644 root:root\n--- /dev/null\n+++ /n\n@@ -0,0 +1,1 @@\n+x',
    });
  });

  test('a text that was cut or masked is not taken for the wanted one', () => {
    for (const more of [{ cut: true }, { masked: true }])
      expect(
        file({ type: 'file', ...owned, text: 'x', ...more }, { path: '/a', content: 'x', ...owned, why }),
      ).toHaveLength(1);
  });
});

describe('hosts behind a balancer', () => {
  const balancer = {
    ...{ on: 'lb', socket: '/s', backends: ['api', 'web'], drainSeconds: 300, readySeconds: 20 },
    serversOf: (host: string) => [`api/${host}`, `web/${host}`],
  };
  const up = { admin: 'ready', sessions: 0, queued: 0, check: 'UP' } as const;
  const of = (states: Record<string, ServerStates[string]>): ServerStates =>
    Object.fromEntries(
      Object.entries(states).flatMap(([host, state]) => [`api/${host}`, `web/${host}`].map((name) => [name, state])),
    );

  test('never leave so many at once that nobody answers', () => {
    const wanted = { atOnce: 3, errorBudget: 2 };
    const atOnce = (states: Record<string, ServerStates[string]>) => pace(balancer, wanted, of(states)).atOnce;
    expect(atOnce({ a: up, b: up, c: up, d: up })).toBe(3);
    expect(atOnce({ a: up, b: up, c: up })).toBe(2);
    expect(atOnce({ a: up, b: up, c: { ...up, check: 'DOWN' } })).toBe(1);
    expect(atOnce({ a: up, b: up, c: { ...up, admin: 'maint' } })).toBe(1);
    expect(atOnce({ a: { ...up, check: 'DOWN' } })).toBe(1);
    expect(pace(balancer, wanted, { ...of({ a: up, b: up, c: up }), 'web/c': { ...up, check: 'DOWN' } }).atOnce).toBe(
      1,
    );
    expect(pace(undefined, wanted)).toEqual(wanted);
  });

  test('have the time of the state that is set, on the way back too', () => {
    const waits = ([step]: Step[]): unknown[] =>
      [step?.do, step?.undo as Call | undefined].map((call) => call?.with['waitSeconds']);
    expect(waits(drain(balancer, 'a'))).toEqual([300, 20]);
    expect(waits(ready(balancer, 'a'))).toEqual([20, 300]);
  });
});

describe('steps of units', () => {
  test('say what has to be changed only', () => {
    const seen = { load: 'loaded', enabled: 'enabled', active: 'inactive' };
    expect(unit(seen, { unit: 'a.service', enabled: true, active: false, why })).toEqual([]);
    expect(unit(seen, { unit: 'a.service', enabled: true, active: true, why })).toMatchObject([
      { id: 'start-a-service', title: 'start a.service', do: { with: { unit: 'a.service', active: true } } },
    ]);
  });

  test('stand around what a unit reads, so that the undo makes it read the old files', () => {
    const steps = file({ type: 'absent' }, { path: '/a', content: 'x', ...owned, why });
    expect(applied({ unit: 'nginx.service', how: 'reload', why }, []).length).toBe(0);
    expect(applied({ unit: 'nginx.service', how: 'reload', why }, steps).map(({ id }) => id)).toEqual([
      'note-nginx-service',
      'write-a',
      'reload-nginx-service',
    ]);
  });
});

describe('a managed block', () => {
  const at = (where: 'start' | 'end') => ({ name: 'n', comment: '#', at: where });
  const text = fc.string({ unit: fc.constantFrom('a', '\n', '\r\n', '\r', 'é', '#', ' ') });

  test('leaves the rest byte for byte: put in and taken out, the file is what it was', () => {
    fc.assert(
      fc.property(text, text, fc.constantFrom('start' as const, 'end' as const), (file, content, where) => {
        const lines = content === '' || content.endsWith('\n') ? content : `${content}\n`;
        const lineEndAdded = where === 'end' && file !== '' && !file.endsWith('\n');
        const put = withBlock(file, at(where), content);
        expect(blockIn(put, at(where))).toBe(lines);
        expect(withBlock(put, at(where), content)).toBe(put);
        expect(withoutBlock(put, at(where), lineEndAdded)).toBe(file);
      }),
    );
  });

  test('in a file that somebody has given other line ends is the same block, and keeps theirs', () => {
    const dos = withBlock('theirs\n', at('end'), 'x\n').replaceAll('\n', '\r\n');
    expect(blockIn(dos, at('end'))).toBe('x\n');
    expect(withBlock(dos, at('end'), 'x\n')).toBe(dos);
    expect(withBlock(dos, at('end'), 'y\n')).toBe(dos.replace('x', 'y'));
    expect(withoutBlock(dos, at('end'))).toBe('theirs\r\n');
    expect(withBlock('theirs\r\n', at('end'), 'x\n')).toBe(dos);
  });

  test('whose markers do not come in one pair is refused', () => {
    const put = withBlock('', at('end'), 'x\n');
    for (const broken of [put + put, put.replace(/# END.*\n/, ''), put.replace(/# BEGIN.*\n/, '')])
      expect(() => blockIn(broken, at('end'))).toThrow(BrokenBlock);
  });
});
