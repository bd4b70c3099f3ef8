#!/bin/sh
# Installs Debian packages and starts none of their services: Backstitch runs private copies of its own.
# usage: install.sh PACKAGE...   (as root)
set -eu
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/zz-backstitch-set-up.conf
saved=
services=

tidy() {
    trap - EXIT
    rm -f "$no_cluster"
    rmdir "${no_cluster%/*}" 2>/dev/null || :
    if [ -n "$saved" ]; then mv -f "$saved" "$policy"; else rm -f "$policy"; fi
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What is there already keeps its services as they are; what we bring must not come up at the next boot either.
for service in nginx pdns pgbouncer postgresql; do
    [ -e "/usr/lib/systemd/system/$service.service" ] || [ -e "/lib/systemd/system/$service.service" ] ||
        services="$services $service"
done

# Debian asks this file before it starts a service; 101 means no.
if [ -e "$policy" ]; then
    saved=$policy.before-backstitch
    [ -e "$saved" ] || mv "$policy" "$saved" # it is there if a set-up before this one was killed
fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

# And asks this one before it makes a database cluster of its own.
mkdir -p "${no_cluster%/*}"
echo 'create_main_cluster = false' >"$no_cluster"

# What apt-get has to say matters when it fails.
log=$(mktemp)
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends --no-upgrade "$@"; } </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"

if [ -d /run/systemd/system ]; then
    for service in $services; do
        systemctl disable --quiet "$service.service" 2>/dev/null || : # what was not asked for is not there
    done
fi
