# shellcheck shell=bash
# Where everything is. The scripts source this file; it is never run.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/versions.env
. "$repo/scripts/versions.env"

# To run PostgreSQL, root has to become the user `postgres`, who cannot read root's home.
if [ -z "${KEEPSAKE_HOME:-}" ]; then
    if [ "$(id -u)" -eq 0 ]; then
        KEEPSAKE_HOME=/var/lib/keepsake
    else
        KEEPSAKE_HOME=${XDG_DATA_HOME:-$HOME/.local/share}/keepsake
    fi
fi
export KEEPSAKE_HOME
export PGRX_HOME=$KEEPSAKE_HOME/pgrx

# The private copies of PostgreSQL, one for each release. The extension is installed there.
pg_root() { printf '%s/pg%s' "$KEEPSAKE_HOME" "$1"; }
pg_config_of() { printf '%s/usr/lib/postgresql/%s/bin/pg_config' "$(pg_root "$1")" "$1"; }

# Whether a release may be missing: an optional one that nobody asked for.
may_be_missing() { [[ " $POSTGRES_OPTIONAL " == *" $1 "* && " ${KEEPSAKE_RELEASES:-} " != *" $1 "* ]]; }

# The releases that the extension is built for: all, without those that may be missing and are. tests/src/places.rs has the same.
releases_here() {
    local major
    for major in $POSTGRES_MAJOR $POSTGRES_ALSO_TESTED; do
        [ ! -x "$(pg_config_of "$major")" ] && may_be_missing "$major" || echo "$major"
    done
}

# Ours come first, before an older Node or another cargo-pgrx of the machine.
export PATH=$repo/node_modules/.bin:$KEEPSAKE_HOME/tools/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# A panic reports a path, so the paths of this machine are removed. What is compiled in two folders is then the same, too.
# What a build script writes, such as the declarations of a PostgreSQL, lies in the target folder.
portable_rustflags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src/= --remap-path-prefix=$repo/= --remap-path-prefix=${CARGO_TARGET_DIR:-$repo/target}/=build/"

# How the worker is compiled. The hashes use SIMD, which workerd supports.
worker_rustflags="-C target-feature=+simd128 $portable_rustflags"

say() { printf '==> %s\n' "$*"; }

# fail CAUSE WHAT-TO-DO
fail() {
    printf '\nerror: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}
