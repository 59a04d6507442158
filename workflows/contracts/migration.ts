import { z } from 'zod';

/** How busy the tables were when the migrations had been applied: what a way back has to be measured against. */
export const RowBaseline = z.object({
  at: z.string().describe('Time of the server'),
  writes: z
    .record(z.string(), z.number())
    .describe('Rows written so far by table, as schema.name: the counters of the server'),
});
export type RowBaseline = z.infer<typeof RowBaseline>;

/** Rows that going back to before a migration would lose. */
export const RowsAtStake = z.object({
  rows: z.array(
    z.object({
      table: z.string(),
      rows: z.int(),
      exact: z
        .boolean()
        .describe("Counted by a column of the table; else by the server's counters, which count every write"),
    }),
  ),
  lines: z.array(z.string()).describe('The same for people'),
});
export type RowsAtStake = z.infer<typeof RowsAtStake>;
