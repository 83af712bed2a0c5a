# shellcheck shell=bash
# Schemathesis, which sends the worker whatever its description allows: a Python environment of its own, of exactly what
# scripts/schemathesis.txt names, by hash.

setup_schemathesis() {
    local place=$KEEPSAKE_HOME/schemathesis wanted=scripts/schemathesis.txt log
    cmp -s "$wanted" "$place/installed.txt" && return 0

    say "Installing Schemathesis"
    log=$(mktemp)
    # Whole or not at all: an environment that was interrupted has no list.
    rm -rf "$place"
    { python3 -m venv "$place" \
        && "$place/bin/pip" install --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
            --requirement "$wanted"; } >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "pip could not install what $wanted names" \
            "read its message above; it needs PyPI or a mirror that pip is set to"
    }
    cp "$wanted" "$place/installed.txt"
    rm -f "$log"
}
