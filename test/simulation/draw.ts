import { writeFile } from "node:fs/promises";
import { badDay } from "./day.ts";
import { drawDay } from "./plot.ts";

// node test/simulation/draw.ts: draws docs/credentials-day.svg anew. To be done when the way of renewing has been changed.
const { svg } = await drawDay(badDay);
await writeFile(new URL("../../docs/credentials-day.svg", import.meta.url), svg);
