# shellcheck shell=bash
# A private copy of pgbouncer, for tests and benchmarks behind a pool: installed as a package, it would be started as
# a service.

setup_pool() {
    local place=$KEEPSAKE_HOME/pgbouncer
    [ ! -x "$place/usr/sbin/pgbouncer" ] || return 0
    say "Fetching pgbouncer from Debian"
    local folder
    folder=$(mktemp -d)
    # For the user `_apt`, as whom apt-get downloads.
    chmod a+rwx "$folder"
    (cd "$folder" && { download_pool || { update_lists && download_pool; }; }) >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        fail "apt-get could not download pgbouncer" "read its message above; pgbouncer is part of Debian 12"
    }
    # Whole or not at all.
    rm -rf "$place"
    dpkg-deb --extract "$folder"/pgbouncer_*.deb "$folder/place"
    chmod -R a+rX "$folder/place"
    mkdir -p "$KEEPSAKE_HOME"
    mv "$folder/place" "$place"
    rm -rf "$folder"
}

# What the machine knows of Debian's packages may be old, or not there at all.
update_lists() {
    if [ "$(id -u)" -eq 0 ]; then
        apt-get update -qq
    else
        sudo apt-get update -qq
    fi
}

download_pool() { apt-get download -qq pgbouncer; }
