import { account, identityProofMarker, instance, leakMarker } from "./account.ts";
import { imdsJson, isoSeconds } from "./pages.ts";

/** The categories that are the same in every run, by path below the version. No credentials. */
export function instanceMetadata(): Readonly<Record<string, string>> {
  const hostname = `ip-${instance.privateIp.replaceAll(".", "-")}.${account.region}.compute.internal`;
  const publicHostname = `ec2-${instance.publicIp.replaceAll(".", "-")}.${account.region}.compute.amazonaws.com`;
  const network = `network/interfaces/macs/${instance.mac}`;
  const metadata: Readonly<Record<string, string>> = {
    "ami-id": instance.amiId,
    "ami-launch-index": "0",
    "ami-manifest-path": "(unknown)",
    "autoscaling/target-lifecycle-state": "InService",
    "block-device-mapping/ami": "/dev/xvda",
    "block-device-mapping/root": "/dev/xvda",
    "events/maintenance/history": "[]",
    "events/maintenance/scheduled": "[]",
    "hibernation/configured": "false",
    hostname,
    "instance-action": "none",
    "instance-id": instance.id,
    "instance-life-cycle": "on-demand",
    "instance-type": instance.type,
    "local-hostname": hostname,
    "local-ipv4": instance.privateIp,
    mac: instance.mac,
    "managed-ssh-keys/active-keys/ec2-user": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN0YW5kLWlu connect-key",
    "managed-ssh-keys/signer-ca": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABc3RhbmQtaW4= signer",
    "metrics/vhostmd": '<?xml version="1.0" encoding="UTF-8"?>',
    [`${network}/device-number`]: "0",
    [`${network}/interface-id`]: instance.interfaceId,
    [`${network}/ipv4-associations/${instance.publicIp}`]: instance.privateIp,
    [`${network}/local-hostname`]: hostname,
    [`${network}/local-ipv4s`]: instance.privateIp,
    [`${network}/mac`]: instance.mac,
    [`${network}/owner-id`]: account.id,
    [`${network}/public-hostname`]: publicHostname,
    [`${network}/public-ipv4s`]: instance.publicIp,
    [`${network}/security-group-ids`]: instance.securityGroupId,
    [`${network}/security-groups`]: instance.securityGroup,
    [`${network}/subnet-id`]: instance.subnetId,
    [`${network}/subnet-ipv4-cidr-block`]: "10.0.1.0/24",
    [`${network}/vpc-id`]: instance.vpcId,
    [`${network}/vpc-ipv4-cidr-block`]: "10.0.0.0/16",
    [`${network}/vpc-ipv4-cidr-blocks`]: "10.0.0.0/16",
    "placement/availability-zone": instance.availabilityZone,
    "placement/availability-zone-id": instance.availabilityZoneId,
    "placement/region": account.region,
    profile: "default-hvm",
    "public-hostname": publicHostname,
    "public-ipv4": instance.publicIp,
    "public-keys/0/openssh-key": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABc3RhbmQtaW4= host-key",
    "reservation-id": instance.reservationId,
    "security-groups": instance.securityGroup,
    "services/domain": "amazonaws.com",
    "services/partition": account.partition,
    system: "nitro",
    "tags/instance/Name": "docker-host-1",
    "tags/instance/env": "test",
  };
  return Object.fromEntries(Object.entries(metadata).map(([path, body]) => [`meta-data/${path}`, body]));
}

/** `dynamic/…`: the identity document and its signatures. The signatures contain `identityProofMarker`. */
export function instanceIdentity(): Readonly<Record<string, string>> {
  const proof = (name: string) => `${identityProofMarker}/${name}\n${"MIIB".repeat(24)}`;
  return {
    "dynamic/fws/instance-monitoring": "disabled",
    "dynamic/instance-identity/document": imdsJson({
      accountId: account.id,
      architecture: instance.architecture,
      availabilityZone: instance.availabilityZone,
      billingProducts: null,
      devpayProductCodes: null,
      imageId: instance.amiId,
      instanceId: instance.id,
      instanceType: instance.type,
      kernelId: null,
      pendingTime: isoSeconds(instance.launchedAt),
      privateIp: instance.privateIp,
      ramdiskId: null,
      region: account.region,
      version: "2017-09-30",
    }),
    "dynamic/instance-identity/pkcs7": proof("pkcs7"),
    "dynamic/instance-identity/rsa2048": proof("rsa2048"),
    "dynamic/instance-identity/signature": proof("signature"),
  };
}

/** Secrets that operators should not put into user-data, and often do. */
export const userData = `#!/bin/sh\nexport DATABASE_PASSWORD=${leakMarker}\n`;

/** The list at `/`. The real one is longer; the generous reading accepts any date. */
export const versions: readonly string[] = [
  ...[
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
  ],
  ...["2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20"],
  ...["2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01"],
  ...["2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest"],
];
