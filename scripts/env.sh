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

# Where the extension is compiled for a release. Each has a folder: in one, they would overwrite each other's library.
extension_target() {
    local target=${CARGO_TARGET_DIR:-$repo/target}
    if [ "$1" = "$POSTGRES_MAJOR" ]; then echo "$target"; else echo "$target/pg$1"; fi
}

# Ours come first, before an older Node or another cargo-pgrx of the machine.
export PATH=$repo/node_modules/.bin:$KEEPSAKE_HOME/tools/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# How the worker is compiled. A panic reports a path, so the paths of this machine are removed. The hashes use SIMD, which
# workerd supports.
worker_rustflags="-C target-feature=+simd128 --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src/= --remap-path-prefix=$repo/="

say() { printf '==> %s\n' "$*"; }

# fail CAUSE WHAT-TO-DO
fail() {
    printf '\nerror: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}
