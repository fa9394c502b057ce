import { type DayOptions, type DayResult, simulateDay } from "./day.ts";

const width = 960;
const height = 280;
const left = 48;
const right = 12;
const top = 44;
const bottom = 34;

/** Calls to STS in each minute of the day as an SVG picture; the same bytes for the same day. */
function dayPlot(options: DayOptions, day: DayResult): string {
  const minutes = day.callsByMinute.length;
  const highest = Math.ceil((day.mean * 3 + 10) / 10) * 10;
  const x = (minute: number) => left + (minute / minutes) * (width - left - right);
  const y = (calls: number) =>
    height - bottom - (Math.min(calls, highest) / highest) * (height - top - bottom);
  const at = (value: number) => value.toFixed(1);
  const line = day.callsByMinute.map((calls, minute) => `${at(x(minute))},${at(y(calls))}`).join(" ");
  const period = options.outageEveryMs / 60_000;
  const outage = options.outageMs / 60_000;
  const outages = Array.from(
    { length: Math.floor(minutes / period) },
    (_, index) => (index + 1) * period - outage,
  ).map(
    (from) =>
      `<rect x="${at(x(from))}" y="${top}" width="${at(x(from + outage) - x(from))}" height="${height - top - bottom}" fill="#f6d5d0"/>`,
  );
  const hours = Array.from({ length: minutes / 240 + 1 }, (_, index) => index * 4).map(
    (hour) =>
      `<text x="${at(x(hour * 60))}" y="${height - bottom + 16}" text-anchor="middle">${hour} h</text>`,
  );
  const level = (calls: number, name: string, colour: string) =>
    `<line x1="${left}" x2="${width - right}" y1="${at(y(calls))}" y2="${at(y(calls))}" stroke="${colour}" stroke-dasharray="4 3"/>` +
    `<text x="${left - 4}" y="${at(y(calls) + 4)}" text-anchor="end" fill="${colour}">${name}</text>`;
  const started = Math.max(...day.callsByMinute.slice(0, options.settledMs / 60_000));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text x="${left}" y="18" font-size="14">Calls to STS a minute: ${options.containers} containers, one-hour sessions, STS down for ${outage} minutes every ${period / 60} hours</text>
<text x="${left}" y="34">mean ${day.mean.toFixed(1)}, peak ${day.peak} (${(day.peak / day.mean).toFixed(2)} times the mean); without the start, whose highest minute has ${started}; shaded: STS is down</text>
${outages.join("\n")}
${level(day.mean, day.mean.toFixed(0), "#3a7d44")}
${level(day.mean * 3, (day.mean * 3).toFixed(0), "#b04a3a")}
${hours.join("\n")}
<polyline points="${line}" fill="none" stroke="#27548a" stroke-width="1"/>
</svg>
`;
}

export async function drawDay(
  options: DayOptions,
): Promise<{ readonly day: DayResult; readonly svg: string }> {
  const day = await simulateDay(options);
  return { day, svg: dayPlot(options, day) };
}
