# shellcheck shell=bash
# A PostgreSQL that checks its own assumptions (`--enable-cassert`), from Debian's source package. In a home of its
# own, so that the extension that is built for it never meets the ordinary one. No part of `make setup`: it
# takes ten minutes of two cores.

# The home; everything below it is laid out as in $KEEPSAKE_HOME.
asserts_home() { printf '%s/pg%s-asserts' "$KEEPSAKE_HOME" "$POSTGRES_MAJOR"; }

setup_asserts() {
    local home folder prefix
    home=$(asserts_home)
    prefix=$home/pg$POSTGRES_MAJOR/usr/lib/postgresql/$POSTGRES_MAJOR
    [ "$(cat "$home/version" 2>/dev/null)" = "$(asserts_version)" ] && return 0

    say "Building PostgreSQL $POSTGRES_MAJOR with assertions (some minutes, once)"
    # Whole or not at all: what was interrupted has no version file.
    rm -rf "$home"
    mkdir -p "$home"
    chmod a+rx "$KEEPSAKE_HOME" "$home"
    folder=$(mktemp -d)
    install_asserts "$folder" "$prefix" >"$folder/log" 2>&1 || {
        tail -n 15 "$folder/log" >&2
        fail "PostgreSQL with assertions could not be built" "read the messages above; the whole log is $folder/log"
    }
    ln -s "$KEEPSAKE_HOME/tools" "$home/tools"
    mkdir "$home/pgrx"
    printf '[configs]\npg%s = "%s"\n' "$POSTGRES_MAJOR" "$prefix/bin/pg_config" >"$home/pgrx/config.toml"
    chmod -R a+rX "$home/pg$POSTGRES_MAJOR"
    asserts_version >"$home/version"
    rm -rf "$folder"
}

# The source package changes when the machine's own PostgreSQL does.
asserts_version() {
    printf '%s, %s\n' "$("/usr/lib/postgresql/$POSTGRES_MAJOR/bin/postgres" --version)" "$asserts_flags"
}
asserts_flags="CFLAGS=-O1 -g -fno-omit-frame-pointer"

install_asserts() {
    local folder=$1 prefix=$2 part
    install_build_packages \
        && fetch_source "$folder" \
        && mkdir "$folder/source" \
        && tar -xf "$folder"/postgresql-"$POSTGRES_MAJOR"_*.orig.tar.* -C "$folder/source" --strip-components=1 \
        && cd "$folder/source" \
        && ./configure --prefix="$prefix" --enable-cassert --enable-debug --with-icu --without-readline "$asserts_flags" \
        || return 1
    # The test programs are those of its own release, as those of the development package are.
    for part in . contrib src/test/isolation; do
        make -s -j2 -C "$part" install || return 1
    done
    cd "$repo"
}

install_build_packages() {
    local missing=() package
    # The tarball has what bison and flex make of it.
    for package in bzip2 libicu-dev zlib1g-dev; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    install_packages
}

# By apt with lists of its own, since the machine's may have no source packages; from where its binary packages
# come, and checked against the same keys.
fetch_source() {
    local folder=$1 source="postgresql-$POSTGRES_MAJOR" options list version
    mkdir -p "$folder/apt/sources.list.d" "$folder/apt/lists/partial" "$folder/apt/archives/partial"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$list" ] || sed -n 's/^deb /deb-src /p' "$list" >>"$folder/apt/sources.list"
    done
    for list in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" >"$folder/apt/sources.list.d/${list##*/}"
    done
    touch "$folder/apt/sources.list"
    # Its sandbox's user must come in.
    chmod -R a+rX "$folder"
    options=(
        -o "Dir::Etc::sourcelist=$folder/apt/sources.list" -o "Dir::Etc::sourceparts=$folder/apt/sources.list.d"
        -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt"
        -o "Dir::Cache::archives=$folder/apt/archives"
    )
    apt-get "${options[@]}" -qq update || return 1
    # The newest that is there: a mirror may know of one that it has not got.
    for version in $(apt-cache "${options[@]}" showsrc "$source" | sed -n 's/^Version: //p' | sort -Vru); do
        (cd "$folder" && apt-get "${options[@]}" -qq source --download-only --only-source "$source=$version") && return 0
    done
    return 1
}
