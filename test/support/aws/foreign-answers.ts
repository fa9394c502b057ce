/** An answer to a call to STS that is not from STS but from a proxy, WAF, captive portal or load balancer. */
export type ForeignAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Announces a longer body than it sends, and closes. */
  readonly cut?: true;
};

const html = (status: number, title: string, headers = {}): ForeignAnswer => ({
  status,
  headers: { "Content-Type": "text/html; charset=utf-8", ...headers },
  body: `<html>\r\n<head><title>${title}</title></head>\r\n<body><center><h1>${title}</h1></center></body>\r\n</html>\r\n`,
});
const json = (status: number, body: string): ForeignAnswer => ({
  status,
  headers: { "Content-Type": "application/json" },
  body,
});
const xml = (status: number, body: string, more: Partial<ForeignAnswer> = {}): ForeignAnswer => ({
  status,
  headers: { "Content-Type": "text/xml" },
  body,
  ...more,
});
const empty = (status: number, headers = {}): ForeignAnswer => ({ status, headers, body: "" });

const refusal = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>
  <RequestId>1</RequestId>
</ErrorResponse>`;

export const foreignAnswers: Readonly<Record<string, ForeignAnswer>> = {
  "html-400": html(400, "400 Bad Request"),
  "html-403": html(403, "403 Forbidden"),
  "html-404": html(404, "404 Not Found"),
  "html-405": html(405, "405 Not Allowed"),
  "html-407": html(407, "407 Proxy Authentication Required", { "Proxy-Authenticate": "Basic" }),
  "html-413": html(413, "413 Request Entity Too Large"),
  "html-429": html(429, "429 Too Many Requests"),
  "html-502": html(502, "502 Bad Gateway"),
  "empty-400": empty(400),
  "empty-403": empty(403),
  "empty-503": empty(503),
  "empty-200": empty(200),
  "json-403": json(403, '{"message":"Forbidden"}'),
  "json-400": json(400, '{"__type":"AccessDeniedException","message":"no"}'),
  "text-403": { status: 403, headers: { "Content-Type": "text/plain" }, body: "AccessDenied" },
  "s3-403": xml(403, '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'),
  "ec2-403": xml(
    403,
    "<Response><Errors><Error><Code>AccessDenied</Code><Message>no</Message></Error></Errors></Response>",
  ),
  "sqs-403": xml(
    403,
    refusal.replace(
      "https://sts.amazonaws.com/doc/2011-06-15/",
      "http://queue.amazonaws.com/doc/2012-11-05/",
    ),
  ),
  "waf-403": xml(403, "<ErrorResponse><Error><Code>RequestBlocked</Code></Error></ErrorResponse>"),
  "fault-403": xml(
    403,
    refusal
      .replace(
        "https://sts.amazonaws.com/doc/2011-06-15/",
        "http://webservices.amazon.com/AWSFault/2005-15-09",
      )
      .replace("AccessDenied", "AuthorizationError"),
  ),
  "no-code-403": xml(403, refusal.replace("<Code>AccessDenied</Code>", "")),
  "refusal-200": xml(200, refusal),
  "refusal-302": xml(302, refusal),
  "wrapped-403": html(403, refusal),
  "cut-403": xml(403, refusal.slice(0, refusal.indexOf("</Error>") + 8), { cut: true }),
  "half-403": xml(403, refusal.slice(0, refusal.indexOf("</Error>") + 8)),
  "cut-200": xml(200, '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">', {
    cut: true,
  }),
  "login-200": html(200, "Sign in to the guest network"),
  "moved-302": html(302, "302 Found", { Location: "http://127.0.0.1:9/login" }),
  "moved-307": html(307, "307 Temporary Redirect", { Location: "http://127.0.0.1:9/login" }),
  "moved-308": html(308, "308 Permanent Redirect", { Location: "http://127.0.0.1:9/login" }),
  "endless-403": html(403, "x".repeat(200_000)),
};
