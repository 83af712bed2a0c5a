#!/bin/bash
# Runs in a fresh Debian that has PostgreSQL 15: installs, uses and removes the packages. `scripts/test-packages` starts it.
set -euo pipefail
cd /packages
# shellcheck source=tests/packages/steps.sh
. /tests/steps.sh
library=/usr/lib/postgresql/$major/lib/keepsake.so
scripts=/usr/share/postgresql/$major/extension

nothing_is_installed() {
    [ ! -e "$library" ] && ! ls "$scripts"/keepsake* >/dev/null 2>&1
}

# No package of ours is unpacked without being configured.
none_by_halves() { ! dpkg --audit | grep keepsake; }

as_postgres() { sudo -u postgres "$@"; }

must pg_ctlcluster "$major" main start

say "a package for another release is refused, and leaves nothing"
refused "postgresql-18" apt-get install -y ./postgresql-18-keepsake_*.deb
must nothing_is_installed
refused "depends on postgresql-18" dpkg -i ./postgresql-18-keepsake_*.deb
must apt-get install -y -f
[ ! -e /usr/lib/postgresql/18 ]
must none_by_halves

say "a full disk is named, leaves nothing, and the same line works when there is space"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$scripts"
refused "No space left on device" apt-get install -y ./postgresql-$major-keepsake_*.deb
must nothing_is_installed
umount "$scripts"
must nothing_is_installed
must none_by_halves

say "the lines of the section on Debian"
must bash -euxo pipefail /tests/install-debian.sh
must as_postgres psql -X -q -v ON_ERROR_STOP=1 -d app -f /tests/use.sql

say "a database without the extension is named, with what to do"
must as_postgres createdb empty
refused "keepsake migrate" sudo -u postgres keepsake doctor --database-url "postgres:///empty?host=/run/postgresql&user=postgres"
refused "hint" sudo -u postgres keepsake doctor --database-url "postgres://postgres@127.0.0.1:1/app"

say "a database whose disk is full is left as it was, and is completed when there is space"
mkdir /small
mount -t tmpfs -o size=80m,mode=755 tmpfs /small
# Without space for its log, a server stops; that is elsewhere.
must pg_createcluster --datadir /small/data "$major" small -- --waldir=/var/lib/postgresql/small-wal
must pg_ctlcluster "$major" small start
small="postgres:///app?host=/run/postgresql&user=postgres&port=$(pg_lsclusters --no-header | awk '$2 == "small" { print $3 }')"
must as_postgres createdb --maintenance-db "${small/app/postgres}" app
# The first session of a database writes a file that each later one reads.
must as_postgres psql -X -d "$small" -c "ALTER DATABASE app SET session_preload_libraries = 'keepsake'"
dd if=/dev/zero of=/small/filler bs=64k status=none 2>/dev/null || true
refused "No space left on device" as_postgres keepsake migrate --database-url "$small"
grep -qF "Check free disk space" /tmp/output
[ "$(as_postgres psql -X -A -t -d "$small" -c "SELECT count(*) FROM pg_extension WHERE extname = 'keepsake'")" = 0 ]
rm /small/filler
must as_postgres keepsake migrate --database-url "$small"
must as_postgres keepsake doctor --database-url "$small"
must pg_dropcluster --stop "$major" small
umount /small

say "a server without the extension's files is named, with the package to install"
must mount --bind /usr/share/postgresql-common "$scripts"
refused "install postgresql-$major-keepsake" as_postgres keepsake migrate --database-url "postgres:///empty?host=/run/postgresql"
umount "$scripts"

say "the package can be removed, and its files go with it"
must as_postgres dropdb app
must apt-get purge -y "postgresql-$major-keepsake"
must nothing_is_installed

say "the archive refuses a wrong pg_config"
mkdir /archive
tar -C /archive -xzf keepsake-*-pg$major-linux-*.tar.gz
cd /archive/keepsake-*
printf '#!/bin/sh\necho "PostgreSQL 16.4"\n' >/tmp/pg_config_16
printf '#!/bin/sh\n[ "$1" = --version ] && echo "PostgreSQL 15.9" || echo /nowhere\n' >/tmp/pg_config_nowhere
chmod +x /tmp/pg_config_*
refused "is no pg_config" ./install /bin/true
refused "is no pg_config" ./install /nowhere/pg_config
refused "belongs to PostgreSQL 16.4" ./install /tmp/pg_config_16
refused "/nowhere" ./install /tmp/pg_config_nowhere
refused "run this as root" sudo -u postgres ./install "/usr/lib/postgresql/$major/bin/pg_config"
must nothing_is_installed

say "the archive refuses a full disk, and leaves nothing"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$scripts"
refused "nothing was changed" ./install "/usr/lib/postgresql/$major/bin/pg_config"
must nothing_is_installed
umount "$scripts"
mount -t tmpfs -o size=64k,mode=755 tmpfs "${library%/*}"
refused "nothing was changed" ./install "/usr/lib/postgresql/$major/bin/pg_config"
umount "${library%/*}"
must nothing_is_installed

say "the archive refuses a read-only disk, and leaves nothing"
mount --bind "$scripts" "$scripts"
mount -o remount,ro,bind "$scripts"
refused "read-only" ./install "/usr/lib/postgresql/$major/bin/pg_config"
umount "$scripts"
must nothing_is_installed

say "the lines of the section on archives"
cd /packages
must bash -euxo pipefail /tests/install-archive.sh
must as_postgres createdb app
must as_postgres psql -X -q -v ON_ERROR_STOP=1 -d app -f /tests/use.sql
pg_ctlcluster "$major" main stop --mode fast
