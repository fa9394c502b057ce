/** The result of one check. `ok` is undefined for a warning: nothing fails now, or it could not be
 * checked. */
export type Finding = {
  readonly subject:
    | "configuration"
    /** The variables of the service. */
    | "environment"
    | "engine"
    | "guard"
    | "containers"
    | "metadata"
    | "sts"
    | "role"
    | "firewall"
    /** A unit of systemd, or what one needs. */
    | "unit"
    /** Who listens where the rules redirect to. */
    | "port"
    | "space"
    /** What the running proxy says about itself. */
    | "proxy"
    /** A request that was sent from a bridge. */
    | "probe";
  readonly ok: boolean | undefined;
  readonly text: string;
  readonly hint: string;
};
