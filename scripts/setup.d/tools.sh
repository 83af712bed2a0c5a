# shellcheck shell=bash
# Programs that cargo builds, each at its pinned version, into $KEEPSAKE_HOME/tools.

# What builds the extension and the worker.
setup_builders() {
    install_tool cargo-pgrx "$CARGO_PGRX_VERSION" --locked
    install_tool worker-build "$WORKER_BUILD_VERSION" --locked
    # Without --locked: its lock file names a yanked release.
    install_tool wasm-bindgen-cli "$WASM_BINDGEN_VERSION"
    rm -rf "$KEEPSAKE_HOME/tools/build"
}

# What only `make check` runs.
setup_checkers() {
    install_tool cargo-machete "$CARGO_MACHETE_VERSION" --locked
    install_tool cargo-deny "$CARGO_DENY_VERSION" --locked
    rm -rf "$KEEPSAKE_HOME/tools/build"
}

# What only `make docs` runs. Without its web server and file watcher, it builds in half the time.
setup_mdbook() {
    install_tool mdbook "$MDBOOK_VERSION" --locked --no-default-features --features search
    rm -rf "$KEEPSAKE_HOME/tools/build"
}

# In our folder, or where `cargo install` puts what a user installs: both are on PATH.
tool_is_installed() {
    grep -qs "^\"$1 $2 " "$KEEPSAKE_HOME/tools/.crates.toml" "${CARGO_HOME:-$HOME/.cargo}/.crates.toml"
}

# install_tool CRATE VERSION [CARGO-OPTION…]
install_tool() {
    local crate=$1 version=$2
    shift 2
    ! tool_is_installed "$crate" "$version" || return 0

    say "Building $crate $version (some minutes, once)"
    # One target folder, because the tools share crates. Little optimisation, because compiling takes far longer than
    # running them ever will.
    CARGO_TARGET_DIR=$KEEPSAKE_HOME/tools/build \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --root "$KEEPSAKE_HOME/tools" "$@" "$crate@$version" || fail \
        "cargo could not build $crate $version" \
        "read its message above; it needs crates.io and about 2 GB of disk"
}
