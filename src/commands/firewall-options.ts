export type FirewallOptions = {
  readonly action: "apply" | "remove" | "status" | "render";
  readonly configPath: string;
  /** Where firewall.conf and firewall.d are; /etc/ec2metaproxy. */
  readonly settingsDirectory: string;
  /** Instead of the settings' BACKEND. */
  readonly backend?: "nftables" | "iptables" | undefined;
  readonly json: boolean;
};

export type Print = (text: string) => void;
