# shellcheck shell=bash
# Everything in package-lock.json: wrangler, esbuild, binaryen, the packages of the page, and a Node that is new enough
# for them.

setup_node() {
    local stamp=node_modules/.keepsake-installed
    cmp -s package-lock.json "$stamp" && return 0

    say "Installing Node packages (wrangler, esbuild, binaryen, the page's, node)"
    # Install scripts are not needed: on Linux, each package contains its program prebuilt.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || fail \
        "npm could not install the packages of package-lock.json" \
        "read its message above; it needs the npm registry"
    link_node
    node -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' || fail \
        "wrangler needs Node 22 or newer, and no package has one for $(uname -m)" \
        "install Node 22 and run this again"
    cp package-lock.json "$stamp"
}

# The packages for two processors both contain a `node`, and older versions of npm then link neither.
link_node() {
    local program
    for program in node_modules/node-linux-*/bin/node; do
        [ ! -x "$program" ] || ln -sf "../${program#node_modules/}" node_modules/.bin/node
    done
}
