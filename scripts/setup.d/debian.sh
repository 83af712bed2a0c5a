# shellcheck shell=bash
# Debian packages: PostgreSQL with its headers, what the Rust crates and pgbouncer link against, Python to
# fetch more, and Chromium to test the page in.

setup_debian() {
    local wanted=(
        ca-certificates chromium curl gcc libc-ares2 libc6-dev libclang-dev libevent-2.1-7 libssl-dev make pkg-config
        "postgresql-$POSTGRES_MAJOR" "postgresql-server-dev-$POSTGRES_MAJOR"
    )
    command -v npm >/dev/null || wanted+=(nodejs npm)
    # A Python of the machine's own will do, if it can make environments.
    python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)

    command -v dpkg-query >/dev/null || fail \
        "this machine has no dpkg; the set-up knows Debian 12 only" \
        "use a Debian 12 machine or container"

    local missing=() package
    for package in "${wanted[@]}"; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    say "Installing Debian packages: ${missing[*]}"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail \
            "Debian packages are missing (${missing[*]}), and there is no sudo to install them with" \
            "as root, run: apt-get install ${missing[*]}"
        root=(sudo)
        # Asks for the password now, where it can be seen.
        sudo true || fail "sudo refused to install Debian packages" \
            "as root, run: apt-get install ${missing[*]}"
    fi

    local log
    log=$(mktemp)
    without_a_main_cluster install_packages >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "apt-get could not install: ${missing[*]}" \
            "read its message above; postgresql-$POSTGRES_MAJOR is part of Debian 12, elsewhere it comes from apt.postgresql.org"
    }
    rm -f "$log"
}

package_is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    "${root[@]}" apt-get update -qq \
        && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Debian's server package creates and starts a cluster named `main`. Nobody asked for one:
# it is switched off while we install, and the machine's own setting stands again afterwards.
without_a_main_cluster() {
    local folder=/etc/postgresql-common/createcluster.d
    local setting=$folder/keepsake-setup.conf outcome=0
    "${root[@]}" mkdir -p "$folder"
    echo 'create_main_cluster = false' | "${root[@]}" tee "$setting" >/dev/null
    "$@" || outcome=$?
    "${root[@]}" rm -f "$setting"
    return "$outcome"
}
