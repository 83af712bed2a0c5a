# shellcheck shell=bash
# The npm package `keepsake-worker`: the built worker and page, for who has no Rust.

package_worker() {
    local root=$staging/keepsake-worker
    scripts/build-worker
    fresh_folder "$root"
    mkdir "$root/worker"
    cp packaging/worker/* LICENSE-APACHE LICENSE-MIT "$root/"
    cp edge/build/index.js edge/build/index_bg.wasm "$root/worker/"
    cp -r page/dist "$root/page"
    worker_configuration >"$root/wrangler.toml"
    (cd "$packages" && npm pack --silent "$root" >/dev/null)
    say "keepsake-worker-$version.tgz: $(stat -c %s "$packages/keepsake-worker-$version.tgz") bytes"
}

# The project's own wrangler.toml without its build. `init` fills in where the package is.
worker_configuration() {
    sed -e '/^\[build\]$/,/^$/d' -e 's|"edge/build/index.js"|"@PACKAGE@/worker/index.js"|' -e 's|"page/dist"|"@PACKAGE@/page"|' \
        -e '1s/.*/# The Keepsake worker, from the npm package keepsake-worker. In short:/' -e '2d' wrangler.toml
}
