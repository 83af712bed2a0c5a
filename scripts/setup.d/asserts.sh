# shellcheck shell=bash
# A PostgreSQL with assertions (`--enable-cassert`), from Debian's source package. It has a home of its own, so that its
# extension and the ordinary one stay apart. Not part of `make setup`: it takes ten minutes on two cores.

# Its home, with the same layout as $KEEPSAKE_HOME.
asserts_home() { printf '%s/pg%s-asserts' "$KEEPSAKE_HOME" "$POSTGRES_MAJOR"; }

setup_asserts() {
    local home folder prefix
    home=$(asserts_home)
    prefix=$home/pg$POSTGRES_MAJOR/usr/lib/postgresql/$POSTGRES_MAJOR
    [ "$(cat "$home/version" 2>/dev/null)" = "$(asserts_version)" ] && return 0

    say "Building PostgreSQL $POSTGRES_MAJOR with assertions (some minutes, once)"
    # The version file is written last: an interrupted build has none and is made again.
    rm -rf "$home"
    mkdir -p "$home"
    chmod a+rx "$KEEPSAKE_HOME" "$home"
    folder=$(mktemp -d)
    install_asserts "$folder" "$prefix" >"$folder/log" 2>&1 || {
        tail -n 15 "$folder/log" >&2
        fail "PostgreSQL with assertions could not be built" "read the messages above; the complete log is $folder/log"
    }
    ln -s "$KEEPSAKE_HOME/tools" "$home/tools"
    mkdir "$home/pgrx"
    printf '[configs]\npg%s = "%s"\n' "$POSTGRES_MAJOR" "$prefix/bin/pg_config" >"$home/pgrx/config.toml"
    chmod -R a+rX "$home/pg$POSTGRES_MAJOR"
    asserts_version >"$home/version"
    rm -rf "$folder"
}

# The source package changes with the machine's own PostgreSQL.
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
    # The test programs have to be of the same release, like those of the development package.
    for part in . contrib src/test/isolation; do
        make -s -j2 -C "$part" install || return 1
    done
    cd "$repo"
}

install_build_packages() {
    local missing=() package
    # The tarball contains the output of bison and flex.
    for package in bzip2 libicu-dev zlib1g-dev; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    install_packages
}

# With apt and package lists of its own, because the machine's may have no source packages. They come from the same place as
# its binary packages, and are verified with the same keys.
fetch_source() {
    local folder=$1 source="postgresql-$POSTGRES_MAJOR" list version
    make_apt_folder "$folder/apt"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -f "$list" ] || sed -n 's/^deb /deb-src /p' "$list" >>"$folder/apt/sources.list"
    done
    for list in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" >"$folder/apt/sources.list.d/${list##*/}"
    done
    apt_of_its_own "$folder/apt" -qq update || return 1
    # The newest that can be downloaded: a mirror may list one that it does not have.
    for version in $(apt_cache_of_its_own "$folder/apt" showsrc "$source" | sed -n 's/^Version: //p' | sort -Vru); do
        (cd "$folder" && apt_of_its_own "$folder/apt" -qq source --download-only --only-source "$source=$version") && return 0
    done
    return 1
}
