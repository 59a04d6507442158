import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { linesInForce, linesOf, withLines, withoutLines } from '../../activities/adoption/cron-lines.js';

describe('lines of a crontab', () => {
  const commands = ['/opt/a.sh', 'b.sh'];

  test('that hold a command become comments, others stay', () => {
    const text = '# /opt/a.sh\n0 2 * * * /opt/a.sh >>/log\n\nMAILTO=x\n  1 * * * * b.sh';
    const changed = withoutLines(text, commands);
    expect(changed).toBe(
      '# /opt/a.sh\n# guardia has taken this over: 0 2 * * * /opt/a.sh >>/log\n\nMAILTO=x\n# guardia has taken this over:   1 * * * * b.sh',
    );
    expect([linesInForce(text, commands), linesInForce(changed, commands)]).toEqual([2, 0]);
  });

  test('come back byte for byte, also among lines that somebody added meanwhile', () => {
    const line = fc.constantFrom('0 2 * * * /opt/a.sh', '# mine', '', 'b.sh', '\tx', '0 0 * * * other');
    fc.assert(
      fc.property(fc.array(line), fc.array(line), (lines, added) => {
        const text = lines.join('\n');
        const back = withLines(withoutLines(text, commands), linesOf(text, commands));
        expect(back).toBe(text);
        const more = `${withoutLines(text, commands)}\n# added\n${added.join('\n')}`;
        expect(withLines(more, linesOf(text, commands))).toBe(`${text}\n# added\n${added.join('\n')}`);
      }),
    );
  });
});
