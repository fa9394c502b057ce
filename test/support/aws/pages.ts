import { STATUS_CODES } from "node:http";

/**
 * The error page of IMDS. For 404 it is the genuine page, 339 bytes (a recording in smithy-rs,
 * `imds_no_iam_role`). No genuine body of 400, 401 or 403 is published, so these use the same page.
 */
export function errorPage(status: number): string {
  const title = `${status} - ${STATUS_CODES[status] ?? "Error"}`;
  return `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t\t "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>${title}</title>
 </head>
 <body>
  <h1>${title}</h1>
 </body>
</html>
`;
}

/**
 * JSON as IMDS formats it: indented by two spaces, a space on both sides of the colon, LF, and no newline at
 * the end.
 */
export function imdsJson(fields: Readonly<Record<string, string | null>>): string {
  const lines = Object.entries(fields).map(
    ([key, value]) => `  ${JSON.stringify(key)} : ${JSON.stringify(value)}`,
  );
  return `{\n${lines.join(",\n")}\n}`;
}

/** `2026-01-15T08:30:00Z`: UTC, in whole seconds, rounded down, as IMDS and STS format every date. */
export function isoSeconds(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, 19)}Z`;
}
