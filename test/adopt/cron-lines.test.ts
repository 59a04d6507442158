import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  commentsBack,
  linesBack,
  linesInForce,
  linesTakenOver,
  linesToPutBack,
  withoutLines,
} from '../../activities/adoption/cron-lines.js';

describe('lines of a crontab', () => {
  const commands = ['/opt/a.sh', 'b.sh'];

  test('that hold a command become comments, others stay', () => {
    const text = '# /opt/a.sh\n0 2 * * * /opt/a.sh >>/log\n\nMAILTO=x\n  1 * * * * b.sh';
    const changed = withoutLines(text, commands);
    expect(changed).toBe(
      '# /opt/a.sh\n# guardia has taken this over: 0 2 * * * /opt/a.sh >>/log\n\nMAILTO=x\n# guardia has taken this over:   1 * * * * b.sh',
    );
    expect([linesInForce(text, commands).length, linesInForce(changed, commands).length]).toEqual([2, 0]);
  });

  const line = fc.constantFrom('0 2 * * * /opt/a.sh', '# mine', '', 'b.sh', '\tx', '0 0 * * * other');

  test('come back byte for byte, also among lines that somebody added meanwhile, and once only', () => {
    fc.assert(
      fc.property(fc.array(line), fc.array(line), (lines, added) => {
        const text = lines.join('\n');
        const inForce = linesInForce(text, commands);
        expect(linesBack(withoutLines(text, commands), inForce, [])).toBe(text);
        const more = `${withoutLines(text, commands)}\n# added\n${added.join('\n')}`;
        const back = linesBack(more, inForce, []);
        expect(back).toBe(`${text}\n# added\n${added.join('\n')}`);
        expect(linesBack(back, inForce, [])).toBe(back);
      }),
    );
  });

  test('that were taken over once and added again by hand come back as often as this run has ended them', () => {
    fc.assert(
      fc.property(fc.array(line), fc.array(line), (earlier, again) => {
        const text = [withoutLines(earlier.join('\n'), commands), ...again].join('\n');
        const [inForce, before] = [linesInForce(text, commands), linesTakenOver(text, commands)];
        const back = linesBack(withoutLines(text, commands), inForce, before);
        expect(back).toBe(text);
        expect(linesBack(back, inForce, before)).toBe(text);
        // And the way back of the way back.
        expect(
          commentsBack(linesBack(text, before, []), before, inForce)
            .split('\n')
            .sort(),
        ).toEqual(text.split('\n').sort());
      }),
    );
  });

  test('that somebody has added again by hand are not in force twice after the way back, and stay after its undo', () => {
    const text = '# guardia has taken this over: b.sh\n# guardia has taken this over: b.sh 2\nb.sh';
    expect(linesToPutBack(text, commands)).toEqual(['b.sh 2']);
    const back = linesBack(text, linesToPutBack(text, commands), []);
    expect(back).toBe('# guardia has taken this over: b.sh\nb.sh 2\nb.sh');
    expect(linesToPutBack(back, commands)).toEqual([]);
    expect(commentsBack(back, ['b.sh 2'], linesInForce(text, commands))).toBe(text);
  });

  test('come back from a journal of an earlier version, which does not say what was a comment before', () => {
    const { before } = JSON.parse('{"lines":["b.sh"]}') as { before?: string[] };
    expect(linesBack(withoutLines('b.sh', commands), ['b.sh'], before)).toBe('b.sh');
    expect(commentsBack('b.sh', ['b.sh'], before)).toBe(withoutLines('b.sh', commands));
  });

  test('are comments again as whole lines: one that only holds such a line stays in force', () => {
    const text = 'b.sh\n5 * * * * b.sh --other';
    expect(commentsBack(text, ['b.sh'], [])).toBe('# guardia has taken this over: b.sh\n5 * * * * b.sh --other');
  });
});
