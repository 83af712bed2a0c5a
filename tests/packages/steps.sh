# shellcheck shell=bash
# How the scripts that run inside a Debian say and check what they do.
# shellcheck disable=SC2034
major=15

say() { printf '  - %s\n' "$*"; }

# must COMMAND…: it succeeds, or what it printed is shown.
must() {
    "$@" >/tmp/output 2>&1 && return
    cat /tmp/output >&2
    echo "failed: $*" >&2
    exit 1
}

# refused WORDS COMMAND…: it fails, and says these words.
refused() {
    local words=$1
    shift
    if "$@" >/tmp/output 2>&1; then
        echo "not refused: $*" >&2
        exit 1
    fi
    grep -qF -- "$words" /tmp/output || {
        cat /tmp/output >&2
        echo "it does not say '$words': $*" >&2
        exit 1
    }
}
