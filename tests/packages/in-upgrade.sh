#!/bin/bash
# Runs in a Debian that systemd has booted: the steps of an upgrade from /packages to /next. `scripts/test-packages` starts it.
set -euo pipefail
# shellcheck source=tests/packages/steps.sh
. /tests/steps.sh
settings=/etc/keepsake/keepsake.toml
database="postgres:///app?host=/run/postgresql"
install() { must apt-get install -y --no-install-recommends "$@"; }
started() { systemctl show keepsake --property=InvocationID --value; }
asked() { sudo -u postgres psql -X -A -t -v ON_ERROR_STOP=1 -d app -c "$1"; }

case $1 in
    old)
        must systemctl start "postgresql@$major-main"
        install /packages/postgresql-$major-keepsake_*.deb /packages/keepsake_*.deb /packages/keepsake-server_*.deb
        must sudo -u postgres createdb app
        asked "ALTER DATABASE app SET session_preload_libraries = 'keepsake'" >/dev/null
        must sudo -u postgres keepsake migrate --database-url "$database"
        must sudo -u postgres psql -X -q -v ON_ERROR_STOP=1 -d app -f /tests/forum.sql
        asked "CREATE TABLE album (id bigint PRIMARY KEY, title text);
            CREATE TABLE picture (album_id bigint NOT NULL REFERENCES album ON DELETE CASCADE, id bigint PRIMARY KEY);
            SELECT keepsake.manage('album', keep => 'archive', cascade => true);
            INSERT INTO album VALUES (1, 'Holiday'); INSERT INTO picture VALUES (1, 7)" >/dev/null
        asked "ALTER ROLE keepsake_worker LOGIN PASSWORD 'beach'" >/dev/null
        asked "DELETE FROM album" >/dev/null
        sed -i 's|^DATABASE_URL = .*|DATABASE_URL = "postgres://keepsake_worker:beach@127.0.0.1:5432/app?sslmode=disable"|' "$settings"
        sed -n 's/^JWT_KEYS = "\(.*\)"$/\1/p' "$settings" >/tests/jwt-keys
        must bash -euxo pipefail /tests/install-service.sh
        ;;
    database)
        before=$(started)
        # The program alone is half of it: nothing is changed before the other half is there.
        install /next/keepsake_*.deb
        refused "install postgresql-$major-keepsake" sudo -u postgres keepsake migrate --database-url "$database"
        install /next/postgresql-$major-keepsake_*.deb
        must sudo -u postgres keepsake migrate --database-url "$database"
        [ "$(started)" = "$before" ]
        ;;
    server)
        before=$(started)
        install /next/keepsake_*.deb /next/keepsake-server_*.deb
        [ "$(started)" != "$before" ]
        must curl --fail --silent --show-error --retry 5 --retry-connrefused http://127.0.0.1:8787/healthz
        ;;
    back)
        # The previous server and program, on the newer database.
        before=$(started)
        install --allow-downgrades /packages/keepsake_*.deb /packages/keepsake-server_*.deb
        [ "$(started)" != "$before" ]
        must curl --fail --silent --show-error --retry 5 --retry-connrefused 'http://127.0.0.1:8787/healthz?deep=1'
        refused "has the files of Keepsake 99.0.0" sudo -u postgres keepsake migrate --database-url "$database"
        ;;
    forward)
        # The previous files of the extension, too: no database goes back, and none is changed.
        install --allow-downgrades /packages/postgresql-$major-keepsake_*.deb
        refused "no database goes back" sudo -u postgres keepsake migrate --database-url "$database"
        install /next/*.deb
        ;;
    check)
        # What SQL deleted before comes back from its archive, by the new version.
        asked "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'album'::regclass AND state = 'deleted'" >/dev/null
        [ "$(asked "SELECT title, picture.id FROM album JOIN picture ON album_id = album.id")" = "Holiday|7" ]
        [ "$(asked "SELECT keepsake.new_in_next() = extversion, extversion <> '' FROM pg_extension WHERE extname = 'keepsake'")" = "t|t" ]
        must sudo -u postgres keepsake doctor --database-url "$database"
        must sudo -u postgres keepsake migrate --database-url "$database"
        must systemctl stop keepsake "postgresql@$major-main"
        ;;
esac
