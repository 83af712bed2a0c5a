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
# A browser to test the page in, the libraries of pgbouncer, and what lets programs of a newer Debian find their libraries.
debian_test=(chromium libc-ares2 libevent-2.1-7 patchelf)
# What builds packages and checks them: a static program needs another libc, and the tests install into a root of their own.
debian_package=(binutils debootstrap dpkg-dev iproute2 lintian musl-tools procps sudo umoci util-linux)
# Any Python that can create virtual environments will do.
python3 -c 'import ensurepip, venv' 2>/dev/null || debian_test+=(python3-venv)
# compose.yaml is read with it.
python3 -c 'import yaml' 2>/dev/null || debian_test+=(python3-yaml)

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

# into_folder_of_apt FOLDER COMMAND…: runs what downloads with apt in a new folder. As root, apt downloads as a user of its own, to
# whom the folder belongs meanwhile. Nobody else can write there, because root extracts what is found.
into_folder_of_apt() {
    local folder=$1
    shift
    mkdir -m 755 "$folder" || return 1
    [ "$(id -u)" -ne 0 ] || chown _apt "$folder" || return 1
    (cd "$folder" && "$@") || return 1
    [ "$(id -u)" -ne 0 ] || chown -R root: "$folder"
}

# An apt with package lists of its own, in a folder: it sees other sources than the machine's, and changes nothing there.
# What it downloads is verified with the machine's keys.
make_apt_folder() {
    mkdir -p "$1/sources.list.d" "$1/lists/partial" "$1/archives/partial"
    : >"$1/sources.list"
    # apt downloads as a user of its own.
    chmod -R a+rX "$1/.."
}
apt_of_its_own() { run_apt apt-get "$@"; }
apt_cache_of_its_own() { run_apt apt-cache "$@"; }

run_apt() {
    local program=$1 folder=$2
    shift 2
    "$program" -o "Dir::Etc::sourcelist=$folder/sources.list" -o "Dir::Etc::sourceparts=$folder/sources.list.d" \
        -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o "Dir::Cache::archives=$folder/archives" "$@"
}

# Where this machine gets Debian from.
debian_mirror() {
    local mirror=${KEEPSAKE_DEBIAN_MIRROR:-}
    [ -z "$mirror" ] || { printf '%s' "$mirror"; return; }
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Codename: bookworm' | head -n 1)
    printf '%s' "${mirror:-http://deb.debian.org/debian}"
}
