/** The result of one check. `ok` is undefined where it could not be checked, or is only worth knowing. */
export type Finding = {
  readonly subject:
    | "configuration"
    | "environment"
    | "engine"
    | "guard"
    | "containers"
    | "metadata"
    | "sts"
    | "role"
    | "firewall";
  readonly ok: boolean | undefined;
  readonly text: string;
  readonly hint: string;
};
