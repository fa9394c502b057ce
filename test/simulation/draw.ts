import { writeFile } from "node:fs/promises";
import { badDay } from "./day.ts";
import { drawDay } from "./plot.ts";

// Redraws docs/credentials-day.svg: run `node test/simulation/draw.ts` after a change to the renewal.
const { svg } = await drawDay(badDay);
await writeFile(new URL("../../docs/credentials-day.svg", import.meta.url), svg);
