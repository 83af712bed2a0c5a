# shellcheck shell=bash
# A private copy of Debian's PostgreSQL. The extension is installed into the copy, so no
# root is needed for it, and the machine's own PostgreSQL is never touched.

setup_postgres() {
    copy_postgres
    configure_pgrx
}

copy_postgres() {
    local system=/usr/lib/postgresql/$POSTGRES_MAJOR
    local version
    version=$("$system/bin/postgres" --version)
    [ "$(cat "$pg_root/version" 2>/dev/null)" = "$version" ] && return 0

    say "Copying $version to $pg_root"
    # Whole or not at all: a copy that was interrupted has no version file.
    rm -rf "$pg_root"
    mkdir -p "$pg_root/usr/lib/postgresql" "$pg_root/usr/share/postgresql" "$pg_root/usr/include"
    cp -a "$system" "$pg_root/usr/lib/postgresql/"
    cp -a "/usr/share/postgresql/$POSTGRES_MAJOR" "$pg_root/usr/share/postgresql/"
    ln -s /usr/include/postgresql "$pg_root/usr/include/postgresql"
    chmod a+rx "$KEEPSAKE_HOME" "$pg_root"
    echo "$version" >"$pg_root/version"
}

# What `cargo pgrx init` would write, without the cluster that it would also make.
configure_pgrx() {
    mkdir -p "$PGRX_HOME"
    printf '[configs]\npg%s = "%s"\n' "$POSTGRES_MAJOR" "$PG_CONFIG" >"$PGRX_HOME/config.toml"
}
