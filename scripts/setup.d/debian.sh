# shellcheck shell=bash
# Debian packages, by task.

# What cargo needs to compile and link.
debian_docs=(ca-certificates curl gcc libc6-dev)
# PostgreSQL with its headers, and what the Rust crates link against.
debian_dev=(
    "${debian_docs[@]}" libclang-dev libssl-dev make pkg-config
    "postgresql-$POSTGRES_MAJOR" "postgresql-server-dev-$POSTGRES_MAJOR"
)
command -v npm >/dev/null || debian_dev+=(nodejs npm)
# A browser to test the page in, and the libraries of pgbouncer.
debian_test=(chromium libc-ares2 libevent-2.1-7)
# Any Python that can create virtual environments will do.
python3 -c 'import ensurepip, venv' 2>/dev/null || debian_test+=(python3-venv)

# setup_debian PACKAGE…
setup_debian() {
    command -v dpkg-query >/dev/null || fail \
        "this machine has no dpkg; the set-up supports Debian 12 only" \
        "use a Debian 12 machine or container"

    local missing=() package
    for package in "$@"; do
        package_is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    say "Installing Debian packages: ${missing[*]}"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail \
            "Debian packages are missing (${missing[*]}), and sudo is not installed" \
            "as root, run: apt-get install ${missing[*]}"
        root=(sudo)
        # Ask for the password now: apt-get's output goes to a log, and the prompt with it.
        sudo true || fail "sudo refused to install Debian packages" \
            "as root, run: apt-get install ${missing[*]}"
    fi

    local log
    log=$(mktemp)
    without_a_main_cluster install_packages >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "apt-get could not install: ${missing[*]}" \
            "read its message above; Debian 12 has postgresql-$POSTGRES_MAJOR, other systems get it from apt.postgresql.org"
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

# Debian's server package creates and starts a cluster named `main`. We do not need it, so we disable that while we
# install and remove our setting afterwards.
without_a_main_cluster() {
    local folder=/etc/postgresql-common/createcluster.d
    local setting=$folder/keepsake-setup.conf outcome=0
    "${root[@]}" mkdir -p "$folder"
    echo 'create_main_cluster = false' | "${root[@]}" tee "$setting" >/dev/null
    "$@" || outcome=$?
    "${root[@]}" rm -f "$setting"
    return "$outcome"
}
