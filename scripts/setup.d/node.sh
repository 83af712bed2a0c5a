# shellcheck shell=bash
# wrangler, esbuild, binaryen, what the page is made of, and a Node new enough for them, all from
# package-lock.json.

setup_node() {
    local stamp=node_modules/.keepsake-installed
    cmp -s package-lock.json "$stamp" && return 0

    say "Installing Node packages (wrangler, esbuild, binaryen, the page's, node)"
    # No package's install script is run: on Linux each brings its program ready-made.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || fail \
        "npm could not install the packages of package-lock.json" \
        "read its message above; it needs the npm registry"
    link_node
    node -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' || fail \
        "wrangler needs Node 22 or newer, and there is none for $(uname -m) among the packages" \
        "install Node 22 and run this again"
    cp package-lock.json "$stamp"
}

# The packages for two processors both offer a `node`, and older npms then link neither.
link_node() {
    local program
    for program in node_modules/node-linux-*/bin/node; do
        [ ! -x "$program" ] || ln -sf "../${program#node_modules/}" node_modules/.bin/node
    done
}
