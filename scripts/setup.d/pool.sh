# shellcheck shell=bash
# A private copy of pgbouncer, for tests and benchmarks behind a pool. Installed as a package, it would start as a service.

setup_pool() {
    local place=$KEEPSAKE_HOME/pgbouncer
    [ ! -x "$place/usr/sbin/pgbouncer" ] || return 0
    say "Fetching pgbouncer from Debian"
    local folder
    folder=$(mktemp -d)
    chmod a+x "$folder"
    into_folder_of_apt "$folder/debs" find_pool >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        fail "apt-get could not download pgbouncer" "read its message above; pgbouncer is part of Debian 12"
    }
    # Moved into place when complete.
    rm -rf "$place"
    dpkg-deb --extract "$folder"/debs/pgbouncer_*.deb "$folder/place"
    chmod -R a+rX "$folder/place"
    mkdir -p "$KEEPSAKE_HOME"
    mv "$folder/place" "$place"
    rm -rf "$folder"
}

# The machine's package lists may be old or missing.
find_pool() { download_pool || { update_lists && download_pool; }; }

update_lists() {
    if [ "$(id -u)" -eq 0 ]; then
        apt-get update -qq
    else
        sudo apt-get update -qq
    fi
}

download_pool() { apt-get download -qq pgbouncer; }
