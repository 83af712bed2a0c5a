#!/bin/bash
# Runs in a Debian that systemd has booted, with PostgreSQL 15 and the packages: uses the service. `scripts/test-packages` starts it.
set -euo pipefail
cd /packages
# shellcheck source=tests/packages/steps.sh
. /tests/steps.sh
settings=/etc/keepsake/keepsake.toml

state() { systemctl show keepsake --property="$1" --value; }

# until_is STATE: the service gets there within half a minute.
until_is() {
    for _ in $(seq 60); do
        [ "$(systemctl is-active keepsake)" != "$1" ] || return 0
        sleep 0.5
    done
    journalctl --unit=keepsake --no-pager >&2
    echo "keepsake.service is $(systemctl is-active keepsake), not $1" >&2
    exit 1
}

# Before its settings are written, and after.
case $1 in
    before)
        must systemctl start "postgresql@$major-main"

        say "the package is installed, and its service does not run yet"
        must apt-get install -y --no-install-recommends ./postgresql-$major-keepsake_*.deb ./keepsake_*.deb ./keepsake-server_*.deb
        [ "$(systemctl is-enabled keepsake)$(systemctl is-active keepsake || true)" = disabledinactive ]
        [ "$(stat -c '%U %G %a' "$settings")" = "root keepsake 640" ]
        [ "$(grep -Ec '^(JWT_KEYS = "jwt|URL_KEYS = "url):[A-Za-z0-9+/]{43}="$' "$settings")" = 2 ]
        if grep -E '(sed|awk) .*new_key' /var/lib/dpkg/info/keepsake-server.postinst; then echo "a key is an argument" >&2 && exit 1; fi

        say "systemd finds nothing wrong with the unit, and that it may do little"
        must systemd-analyze verify --man=no keepsake.service
        must systemd-analyze security --no-pager --threshold=15 keepsake.service
        systemd-analyze security --no-pager keepsake.service 2>/dev/null | tail -n 1

        say "without a database it does not run, says why, and is not started for ever"
        systemctl start keepsake 2>/dev/null || true
        until_is failed
        journalctl --unit=keepsake --no-pager >/tmp/journal
        grep -q "DATABASE_URL: is required" /tmp/journal || { tail -n 5 /tmp/journal >&2; exit 1; }

        say "a folder that it may not write to is named"
        sed -i 's|^DATABASE_URL = .*|DATABASE_URL = "postgres://keepsake_worker:beach@127.0.0.1:5432/app?sslmode=disable"|' "$settings"
        refused "/root/files cannot be used" sudo -u keepsake env FILE_ROOT=/root/files keepsake serve --config "$settings"
        refused "hint: let the user of this process" sudo -u keepsake env FILE_ROOT=/root/files keepsake serve --config "$settings"

        must sudo -u postgres createdb app
        must sudo -u postgres keepsake migrate --database-url "postgres:///app?host=/run/postgresql"
        must sudo -u postgres psql -X -q -v ON_ERROR_STOP=1 -d app -f /tests/forum.sql
        must sudo -u postgres psql -X -q -d app -c "ALTER ROLE keepsake_worker LOGIN PASSWORD 'beach'"
        systemctl reset-failed keepsake
        say "the lines of the section on the service"
        must bash -euxo pipefail /tests/install-service.sh
        must systemctl is-enabled keepsake
        say "a second server on its port says who has it, and the first goes on"
        refused "cannot listen at 127.0.0.1:8787: Address in use" sudo -u keepsake keepsake serve --config "$settings"
        refused "hint: end the program that listens there" sudo -u keepsake keepsake serve --config "$settings"
        until_is active
        sed -n 's/^JWT_KEYS = "\(.*\)"$/\1/p' "$settings" >/tests/jwt-keys
        ;;
    after)
        say "what it stores is its own, and no secret is in its log"
        [ "$(find /var/lib/keepsake/objects -type f -user keepsake -perm 600 | wc -l)" = 1 ]
        [ "$(find /var/lib/keepsake -not -user keepsake | wc -l)" = 0 ]
        journalctl --unit=keepsake --no-pager >/tmp/journal
        for secret in beach@ "$(cut -d: -f2 /tests/jwt-keys)" "$(sed -n 's/^URL_KEYS = "url:\(.*\)"$/\1/p' "$settings")"; do
            if grep -qF -- "$secret" /tmp/journal; then echo "the log has a secret" >&2 && exit 1; fi
        done

        say "another version of the package restarts it, and keeps its settings"
        cp "$settings" /tmp/settings
        before=$(state InvocationID)
        must apt-get install -y --reinstall ./keepsake-server_*.deb
        until_is active
        [ "$(state InvocationID)" != "$before" ]
        must cmp "$settings" /tmp/settings

        say "told to stop, it ends without an error"
        must systemctl stop keepsake
        [ "$(state Result) $(state ExecMainStatus)" = "success 0" ]

        say "a purge leaves the users' files, and nothing else"
        must apt-get purge -y keepsake-server
        [ ! -e /etc/keepsake ] && [ ! -e /usr/share/keepsake ] && [ -d /var/lib/keepsake/objects ]
        [ -z "$(find /etc/systemd -name 'keepsake*')" ]
        if systemctl cat keepsake >/dev/null 2>&1; then echo "the unit is still there" >&2 && exit 1; fi
        must systemctl stop "postgresql@$major-main"
        ;;
esac
