# shellcheck shell=bash
# What `keepsake serve` needs besides the program, as a service of systemd: unit, user, settings, and the page.

package_server() {
    local root=$staging/keepsake-server
    scripts/build-client
    scripts/build-page
    fresh_folder "$root"
    mkdir -p "$root/DEBIAN" "$root/usr/share/keepsake" "$root/usr/share/lintian/overrides"
    cp packaging/server/{postinst,prerm,postrm} "$root/DEBIAN/"
    install -D -m 644 packaging/server/keepsake.service "$root/usr/lib/systemd/system/keepsake.service"
    install -D -m 644 packaging/server/sysusers.conf "$root/usr/lib/sysusers.d/keepsake.conf"
    cp packaging/server/keepsake.toml "$root/usr/share/keepsake/"
    cp -r page/dist "$root/usr/share/keepsake/page"
    # Not the same version of the program: an update installs it first, and its `keepsake migrate`, and then this one, which
    # restarts the service.
    deb_architecture=all make_deb "$root" keepsake-server "keepsake (>= $version-1), systemd | systemd-standalone-sysusers" web \
        "attachments and undoable deletion over HTTP" <<'DESCRIPTION'
Keepsake adds attachments and undoable deletion to an application on
PostgreSQL. This package runs `keepsake serve` as a service of systemd, which
answers the HTTP interface and serves the page. The service starts when its
settings name a database: /etc/keepsake/keepsake.toml.
DESCRIPTION
}
