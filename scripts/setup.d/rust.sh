# shellcheck shell=bash
# The Rust toolchain that rust-toolchain.toml names, with its components and targets.

setup_rust() {
    command -v rustup >/dev/null || install_rustup
    toolchain_is_complete && return 0

    say "Installing the Rust toolchain that rust-toolchain.toml names"
    # Without arguments, rustup reads the file. Called explicitly, because RUSTUP_AUTO_INSTALL may be 0.
    rustup toolchain install || fail \
        "rustup could not install the toolchain of rust-toolchain.toml" \
        "read its message above; rustup 1.28 or newer is needed ('rustup self update')"
}

# What the program `keepsake` is packaged for.
setup_static_target() {
    local triple
    triple=$(uname -m)-unknown-linux-musl
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ] || return 0
    say "Installing Rust's standard library for $triple"
    rustup target add "$triple" || fail "rustup could not install the target $triple" "read its message above"
}

toolchain_is_complete() {
    local sysroot
    sysroot=$(RUSTUP_AUTO_INSTALL=0 rustc --print sysroot 2>/dev/null) \
        && [ -d "$sysroot/lib/rustlib/wasm32-unknown-unknown/lib" ] \
        && [ -x "$sysroot/bin/cargo-clippy" ] && [ -x "$sysroot/bin/cargo-fmt" ]
}

install_rustup() {
    say "Installing rustup"
    local installer
    installer=$(mktemp)
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" \
        && sh "$installer" -y --quiet --profile minimal --default-toolchain none --no-modify-path \
        || fail "rustup, the installer of Rust, could not be downloaded" \
            "install it as https://rustup.rs describes, then run this again"
    rm -f "$installer"
}
