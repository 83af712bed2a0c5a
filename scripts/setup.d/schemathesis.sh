# shellcheck shell=bash
# Schemathesis, which tests the worker with requests generated from its description. It gets a Python environment with
# exactly what scripts/schemathesis.txt lists, verified by hash.

setup_schemathesis() {
    local place=$KEEPSAKE_HOME/schemathesis wanted=scripts/schemathesis.txt log
    cmp -s "$wanted" "$place/installed.txt" && return 0

    say "Installing Schemathesis"
    log=$(mktemp)
    # The list is copied last: an interrupted environment has none and is made again.
    rm -rf "$place"
    { python3 -m venv "$place" \
        && "$place/bin/pip" install --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
            --requirement "$wanted"; } >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "pip could not install the packages of $wanted" \
            "read its message above; it needs PyPI or a mirror configured in pip"
    }
    cp "$wanted" "$place/installed.txt"
    rm -f "$log"
}
