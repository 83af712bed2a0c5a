# shellcheck shell=bash
# The program `keepsake`: one file that needs no library of the machine it runs on.

package_command() {
    local triple program
    triple=$(uname -m)-unknown-linux-musl
    program=$target/package-build/command/$triple/release/keepsake
    say "Building the program keepsake"
    RUSTFLAGS="$portable_rustflags -C strip=symbols" CARGO_TARGET_DIR=$target/package-build/command \
        cargo build --locked --quiet --release --package keepsake-cli --target "$triple"
    scripts/build-client
    scripts/build-page
    command_deb "$program"
    command_archive "$program"
}

command_deb() {
    local program=$1 root=$staging/keepsake
    fresh_folder "$root"
    install -D -m 755 "$program" "$root/usr/bin/keepsake"
    mkdir -p "$root/usr/share/lintian/overrides" "$root/usr/share/man/man1"
    gzip -9n <packaging/keepsake.1 >"$root/usr/share/man/man1/keepsake.1.gz"
    printf '# On purpose: one build serves every release of Debian and Ubuntu.\nkeepsake: statically-linked-binary [usr/bin/keepsake]\n' \
        >"$root/usr/share/lintian/overrides/keepsake"
    # Nothing to depend on but the certificates with which it verifies a server.
    make_deb "$root" keepsake ca-certificates database "installs Keepsake in a PostgreSQL database, and operates it" <<'DESCRIPTION'
Keepsake adds attachments and undoable deletion to an application on
PostgreSQL. This program installs and updates its extension and schema in a
database, finds problems, and lists, restores and purges deletions.

The extension itself is in postgresql-NN-keepsake, for the server's release.
DESCRIPTION
}

command_archive() {
    local program=$1 name
    name="keepsake-$version-linux-$(uname -m)"
    fresh_folder "$staging/$name"
    cp LICENSE-APACHE LICENSE-MIT "$staging/$name/"
    # To serve: where there is no Debian, these go where the unit and the settings say.
    cp packaging/server/{keepsake.service,keepsake.toml,sysusers.conf} "$staging/$name/"
    cp -r page/dist "$staging/$name/page"
    install -m 755 "$program" "$staging/$name/keepsake"
    make_archive "$staging/$name" "$packages/$name.tar.gz"
}
