# shellcheck shell=bash
# The extension for one release of PostgreSQL.

package_extension() {
    local major=$1 files=$staging/extension-$1
    build_extension "$major" "$files"
    extension_deb "$major" "$files"
    extension_archive "$major" "$files"
    # Older servers look for an extension's control file beside their own only.
    [ "$major" -lt 18 ] || extension_image "$major" "$files"
}

# The library and the scripts, in FILES/lib and FILES/share/extension: how CloudNativePG mounts an extension. They are those
# that `scripts/install-extension` put into the private PostgreSQL, so what is packaged is what was tested.
build_extension() {
    local major=$1 files=$2 config installed
    scripts/install-extension "$major"
    config=$(pg_config_of "$major")
    installed=$("$config" --sharedir)/extension
    fresh_folder "$files"
    mkdir -p "$files/lib" "$files/share/extension"
    cp "$("$config" --pkglibdir)/keepsake.so" "$files/lib/"
    cp "$installed/keepsake.control" "$installed/keepsake--$version.sql" "$files/share/extension/"
    # Updates of released versions. Versions that were made up for tests are not packaged.
    find pg_ext/sql -name 'keepsake--*--*.sql' -exec cp -t "$files/share/extension" {} +
    strip --strip-unneeded "$files/lib/keepsake.so"
    chmod 644 "$files/lib/keepsake.so" "$files/share/extension"/*
}

extension_deb() {
    local major=$1 files=$2 root=$staging/postgresql-$1-keepsake
    fresh_folder "$root"
    mkdir -p "$root/usr/lib/postgresql/$major/lib" "$root/usr/share/postgresql/$major"
    cp "$files/lib/keepsake.so" "$root/usr/lib/postgresql/$major/lib/"
    cp -r "$files/share/extension" "$root/usr/share/postgresql/$major/"
    make_deb "$root" "postgresql-$major-keepsake" "postgresql-$major, $(libraries_of "$files/lib/keepsake.so")" database \
        "undoable deletion for PostgreSQL $major" <<'DESCRIPTION'
Keepsake makes DELETE undoable: every removed row goes to an archive, and a
restore brings back exactly the rows of one deletion, or names every conflict.
A purge removes expired rows for good, and hands the keys of their stored
objects to a worker.

This package has the extension's library and scripts. In a database:
CREATE EXTENSION keepsake.
DESCRIPTION
}

extension_archive() {
    local major=$1 files=$2 name="keepsake-$version-pg$1-linux-$(uname -m)"
    fresh_folder "$staging/$name"
    cp -r "$files/lib" "$files/share" LICENSE-APACHE LICENSE-MIT "$staging/$name/"
    echo "$major" >"$staging/$name/postgresql"
    install -m 755 packaging/install "$staging/$name/install"
    make_archive "$staging/$name" "$packages/$name.tar.gz"
}

extension_image() {
    local major=$1 files=$2 name="keepsake-$version-pg$1-$(architecture).oci"
    fresh_folder "$staging/$name"
    mkdir "$files/licenses"
    cp LICENSE-APACHE LICENSE-MIT "$files/licenses/"
    scripts/oci-image --layout "$staging/$name" --tag "$version-pg$major" --architecture "$(architecture)" --time "$SOURCE_DATE_EPOCH" \
        --label org.opencontainers.image.title=keepsake --label "org.opencontainers.image.version=$version" \
        --label org.opencontainers.image.licenses="MIT OR Apache-2.0" \
        --label "org.opencontainers.image.description=Keepsake for PostgreSQL $major, to be mounted as an extension" "$files"
    # As `skopeo copy oci-archive:…` and `podman load` read it.
    tar -C "$staging/$name" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -cf "$packages/$name.tar" .
    say "$name.tar: $(stat -c %s "$packages/$name.tar") bytes"
}
