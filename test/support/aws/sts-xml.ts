import { isoSeconds } from "./pages.ts";
import type { Principal } from "./principals.ts";
import type { StsError } from "./sts-errors.ts";

const xmlns = "https://sts.amazonaws.com/doc/2011-06-15/";

export type AssumedRole = {
  readonly session: Principal;
  /** Percentage of the space for packed policies and tags; undefined if there are none. */
  readonly packedPolicyPercent: number | undefined;
  readonly sourceIdentity: string | undefined;
};

export function assumeRoleXml(assumed: AssumedRole, requestId: string): string {
  const { session, packedPolicyPercent, sourceIdentity } = assumed;
  const optional = [
    packedPolicyPercent === undefined
      ? ""
      : `\n    ${element("PackedPolicySize", String(packedPolicyPercent))}`,
    sourceIdentity === undefined ? "" : `\n    ${element("SourceIdentity", sourceIdentity)}`,
  ].join("");
  return `<AssumeRoleResponse xmlns="${xmlns}">
  <AssumeRoleResult>
    <AssumedRoleUser>
      ${element("AssumedRoleId", session.userId)}
      ${element("Arn", session.arn)}
    </AssumedRoleUser>
    <Credentials>
      ${element("AccessKeyId", session.accessKeyId)}
      ${element("SecretAccessKey", session.secretAccessKey)}
      ${element("SessionToken", session.sessionToken)}
      ${element("Expiration", isoSeconds(session.expiresAt))}
    </Credentials>${optional}
  </AssumeRoleResult>
  <ResponseMetadata>
    ${element("RequestId", requestId)}
  </ResponseMetadata>
</AssumeRoleResponse>
`;
}

export function callerIdentityXml(caller: Principal, requestId: string): string {
  return `<GetCallerIdentityResponse xmlns="${xmlns}">
  <GetCallerIdentityResult>
    ${element("Arn", caller.arn)}
    ${element("UserId", caller.userId)}
    ${element("Account", caller.accountId)}
  </GetCallerIdentityResult>
  <ResponseMetadata>
    ${element("RequestId", requestId)}
  </ResponseMetadata>
</GetCallerIdentityResponse>
`;
}

export function errorXml(error: StsError, requestId: string): string {
  return `<ErrorResponse xmlns="${xmlns}">
  <Error>
    <Type>${error.status >= 500 ? "Receiver" : "Sender"}</Type>
    ${element("Code", error.code)}
    ${element("Message", error.message)}
  </Error>
  ${element("RequestId", requestId)}
</ErrorResponse>
`;
}

function element(name: string, text: string): string {
  const escaped = text.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<${name}>${escaped}</${name}>`;
}
