import { z } from 'zod';

/** How busy the tables were when the migrations had been applied, or, where nobody saw that, before: what a way back has to be measured against. */
export const RowBaseline = z.object({
  at: z.string().describe('Time of the server'),
  writes: z
    .record(z.string(), z.number())
    .describe('Rows written so far by table, as schema.name: the counters of the server'),
  changes: z
    .record(z.string(), z.number())
    .optional()
    .describe('Those of them that were updated or deleted; missing in records from before guardia noted them'),
});
export type RowBaseline = z.infer<typeof RowBaseline>;

/** Rows that going back to before a migration would lose. */
export const RowsAtStake = z.object({
  rows: z.array(
    z.object({
      table: z.string(),
      rows: z
        .int()
        .describe('Written: where `exact`, inserted; else every insert, update and delete that the server counted'),
      changes: z
        .int()
        .default(0)
        .describe("Where `exact`: updates and deletes beside them, by the server's counters: no column tells of these"),
      exact: z
        .boolean()
        .describe('Whether `rows` is counted by a column of the table, and not by counters of the server'),
    }),
  ),
  lines: z.array(z.string()).describe('The same for people'),
});
export type RowsAtStake = z.infer<typeof RowsAtStake>;
