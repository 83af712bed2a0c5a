# shellcheck shell=bash
# wrangler, esbuild, binaryen, and a Node new enough for them, all from package-lock.json.

setup_node() {
    local stamp=node_modules/.keepsake-installed
    cmp -s package-lock.json "$stamp" && return 0

    say "Installing Node packages (wrangler, esbuild, binaryen, node)"
    # No package's install script is run: on Linux each brings its program ready-made.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || fail \
        "npm could not install the packages of package-lock.json" \
        "read its message above; it needs the npm registry"
    node -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' || fail \
        "wrangler needs Node 22 or newer, and npm has no ready-made one for $(uname -m)" \
        "install Node 22 and run this again"
    cp package-lock.json "$stamp"
}
