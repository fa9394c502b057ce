#!/bin/sh
# The firewall script of earlier metadata proxies, for those who call it from their own provisioning: same arguments, but the rules are made by
# `ec2metaproxy firewall apply`, from a drop-in that holds the arguments. Nothing is written to /etc unless --save is given.
set -eu

usage() {
    cat <<'USAGE'
Usage: setup-firewall.sh --container-iface NAME [OPTION]...

Sends containers' requests for the instance metadata service to the proxy, and drops what would get round it.

  --container-iface NAME   bridge of the containers, e.g. docker0 or 'br-*'; may be given more than once
  --proxy-port PORT        port of the proxy (default: that of config.json)
  --metadata-ip ADDRESS    address of the metadata service, IPv4 or IPv6 (default 169.254.169.254 and fd00:ec2::254)
  --metadata-port PORT     its port (default 80)
  --dry-run                print the rules and change nothing; needs no root
  --save                   also keep the settings, in /etc/ec2metaproxy/firewall.d/zz-setup-firewall.conf, for the next boot
  --force                  overwrite settings that were saved before; without --save, apply although
                           ec2metaproxy-firewall.timer will bring the saved settings back
  --help                   this text

Each option may also be written --option=VALUE. Environment: EC2METAPROXY, the program (default: ec2metaproxy);
EC2METAPROXY_SETTINGS, the directory of the settings (default: /etc/ec2metaproxy).
USAGE
}

fail() {
    printf 'setup-firewall.sh: %s\n' "$1" >&2
    exit "${2:-64}"
}

program=${EC2METAPROXY:-ec2metaproxy}
settings=${EC2METAPROXY_SETTINGS:-/etc/ec2metaproxy}
interfaces='' proxy_port='' metadata_ip='' metadata_port=''
dry_run=no save=no force=no

while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
        --*=*)
            # Taken apart, and looked at once more as two words.
            set -- "${option%%=*}" "${option#*=}" "$@"
            continue
            ;;
        --container-iface | --proxy-port | --metadata-ip | --metadata-port)
            [ $# -gt 0 ] || fail "$option needs a value"
            case $1 in
                '' | -* | *[!A-Za-z0-9_.:@*-]*) fail "$option: \"$1\" is no value for it" ;;
            esac
            case $option in
                --container-iface) interfaces="${interfaces:+$interfaces }$1" ;;
                --proxy-port) proxy_port=$1 ;;
                --metadata-ip) metadata_ip=$1 ;;
                --metadata-port) metadata_port=$1 ;;
            esac
            shift
            ;;
        --dry-run | -n) dry_run=yes ;;
        --save) save=yes ;;
        --force | -f) force=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) fail "there is no option $option; --help shows the usage" ;;
    esac
done

[ -n "$interfaces" ] || fail 'name the bridge of the containers: --container-iface docker0'
command -v "${program%% *}" >/dev/null || fail "$program: command not found; install the package, or set EC2METAPROXY" 69

drop_in() {
    echo '# Written by setup-firewall.sh from its arguments.'
    echo "INTERFACES=\"$interfaces\""
    [ -z "$proxy_port" ] || echo "PROXY_PORT=$proxy_port"
    [ -z "$metadata_port" ] || echo "METADATA_PORT=$metadata_port"
    case $metadata_ip in
        '') ;;
        *:*) echo "METADATA_IPV6=$metadata_ip" ;;
        *) echo "METADATA_IPV4=$metadata_ip" ;;
    esac
}

# The host's own settings with the arguments last, in a place that goes away.
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT
trap 'exit 130' INT TERM
mkdir "$trial/firewall.d"
[ ! -f "$settings/firewall.conf" ] || cp "$settings/firewall.conf" "$trial/"
for file in "$settings"/firewall.d/*.conf; do
    case ${file##*/} in
        '*.conf' | zz-setup-firewall.conf) ;;
        *) cp "$file" "$trial/firewall.d/" ;;
    esac
done
drop_in >"$trial/firewall.d/zz-setup-firewall.conf"

if [ "$dry_run" = yes ]; then
    # $program may be a command with arguments.
    # shellcheck disable=SC2086
    $program firewall render --settings "$trial"
    exit
fi

saved=$settings/firewall.d/zz-setup-firewall.conf
if [ "$save" = yes ] && [ "$force" = no ] && [ -f "$saved" ] && ! drop_in | cmp -s - "$saved"; then
    fail "$saved has other settings; --force overwrites them" 1
fi
if [ "$save" = no ] && [ "$force" = no ] && systemctl is-active --quiet ec2metaproxy-firewall.timer 2>/dev/null; then
    fail 'ec2metaproxy-firewall.timer is active and would bring the saved settings back: give --save (or --force)' 1
fi

# Applied before it is saved: settings with a mistake are reported, and leave both the rules and the file as they are.
# shellcheck disable=SC2086
$program firewall apply --settings "$trial"

if [ "$save" = yes ]; then
    mkdir -p "$settings/firewall.d"
    drop_in >"$saved.new"
    mv "$saved.new" "$saved"
    echo "saved in $saved"
fi
