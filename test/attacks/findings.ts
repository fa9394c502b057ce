import { z } from "zod";
import type { Findings, Reading } from "./order.ts";

const findings = z.object({
  capabilities: z.string(),
  rounds: z.number(),
  opened: z.number(),
  answers: z.record(z.string(), z.number()),
  tokens: z.array(z.string()),
  roles: z.array(z.string()),
  credentials: z.array(z.string()),
  bytes: z.number(),
  began: z.number(),
  ended: z.number(),
  notes: z.array(z.string()),
  text: z.string(),
});

export const readFindings = (output: string): Findings => findings.parse(JSON.parse(output));

const reading = z.object({
  tokens: z.array(z.string()),
  credentials: z.number(),
  errors: z.array(z.string()),
  began: z.number(),
  ended: z.number(),
});

export const parseReading = (line: string): Reading => reading.parse(JSON.parse(line));
