# shellcheck shell=bash
# Releases of PostgreSQL that only newer suites of Debian have. Their programs need a newer libc than this machine's, so each
# release gets a folder with all the libraries that it loads, and its programs are told to look there.

fetch_newer_releases() {
    local entry
    for entry in $POSTGRES_FROM_DEBIAN; do
        fetch_newer_release "${entry%%:*}" "${entry#*:}"
    done
}

# fetch_newer_release MAJOR SUITES   (SUITES separated by commas)
fetch_newer_release() {
    local major=$1 suites=${2//,/ } root folder
    root=$(pg_root "$major")
    [ "$(cat "$root/suites" 2>/dev/null)" != "$suites" ] || return 0

    folder=$(mktemp -d)
    download_from_first "$major" "$suites" "$folder" || {
        rm -rf "$folder"
        may_be_missing "$major" || fail "PostgreSQL $major could not be fetched from Debian ($suites)" \
            "read the messages above; it needs a mirror of Debian with one of these suites. To test without it, set KEEPSAKE_RELEASES='15 16 18'"
        say "PostgreSQL $major is left out: none of Debian's suites $suites has it for this machine. To insist on it, set KEEPSAKE_RELEASES='$major'"
        return 0
    }
    # Moved into place when complete.
    rm -rf "$root"
    mkdir -p "$KEEPSAKE_HOME"
    mv "$folder/root" "$root"
    find_own_libraries "$major" >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        fail "the programs of PostgreSQL $major do not start on this machine" "read the messages above; they are in $root"
    }
    chmod a+rx "$KEEPSAKE_HOME"
    chmod -R a+rX "$root"
    # The suites are written last: an interrupted copy has none and is made again.
    cat "$root/version"
    echo "$suites" >"$root/suites"
    rm -rf "$folder"
}

# From the first suite alone, or from it with the next, and so on: what is in the next may need what is in those before.
download_from_first() {
    local major=$1 suites=$2 folder=$3 suite tried=
    for suite in $suites; do
        tried=${tried:+$tried }$suite
        say "Fetching PostgreSQL $major from Debian ($tried)"
        rm -rf "${folder:?}"/*
        ! download_release "$major" "$tried" "$folder" >"$folder/log" 2>&1 || return 0
        tail -n 5 "$folder/log" >&2
    done
    return 1
}

download_release() {
    local major=$1 suites=$2 folder=$3 suite packages
    make_apt_folder "$folder/apt"
    for suite in $suites; do
        echo "deb $(debian_mirror) $suite main" >>"$folder/apt/sources.list"
    done
    # Without this, a suite that cannot be had is a warning.
    apt_of_its_own "$folder/apt" -qq -o APT::Update::Error-Mode=any update || return 1
    packages=$(with_libraries "$folder/apt" "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major") || return 1
    # shellcheck disable=SC2086
    into_folder_of_apt "$folder/debs" apt_of_its_own "$folder/apt" -qq download $packages || return 1
    local deb
    # Where libraries are in the folder does not depend on where a suite has moved them to.
    mkdir -p "$folder/root/usr/lib" && ln -s usr/lib "$folder/root/lib" || return 1
    for deb in "$folder/debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$folder/root" || return 1
    done
}

# with_libraries APT-FOLDER PACKAGE…: these packages and the libraries that they need, and that those need. Without LLVM, which
# is larger than all the rest: the server does not compile expressions then.
with_libraries() {
    local folder=$1
    shift
    apt_cache_of_its_own "$folder" dumpavail | awk -v wanted="$*" '
        /^Package: / { package = $2 }
        /^(Pre-)?Depends: / { sub(/^[^:]*: /, ""); needs[package] = needs[package] ", " $0 }
        END {
            count = split(wanted, queue, " ")
            for (i = 1; i <= count; i++) {
                if (queue[i] in seen) continue
                seen[queue[i]]
                print queue[i]
                parts = split(needs[queue[i]], need, /, */)
                for (j = 1; j <= parts; j++) {
                    split(need[j], name, /[ :]/)
                    if (name[1] ~ /^lib/ && name[1] !~ /^lib(llvm|clang|perl|pq-dev)/) queue[++count] = name[1]
                }
            }
        }'
}

# The programs start with the loader of their own libc, and find their libraries by a path that what they load inherits.
find_own_libraries() {
    local major=$1 root libraries loader program
    root=$(pg_root "$major")
    libraries=$(dirname "$(find "$root/usr/lib" -name libc.so.6 | head -n 1)")
    for program in "$root/usr/lib/postgresql/$major/bin"/*; do
        loader=$(patchelf --print-interpreter "$program" 2>/dev/null) || continue
        patchelf --set-interpreter "$libraries/${loader##*/}" --force-rpath --set-rpath "$libraries" "$program" || return 1
    done
    rm -f "$root/usr/lib/postgresql/$major/lib"/llvmjit*.so
    "$root/usr/lib/postgresql/$major/bin/postgres" --version >"$root/version"
}
