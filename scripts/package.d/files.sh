# shellcheck shell=bash
# How files become packages: the same files make the same bytes, whenever and wherever.

target=${CARGO_TARGET_DIR:-$repo/target}
packages=$target/packages
staging=$target/package-files
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
maintainer="${DEBFULLNAME:-Keepsake maintainers} <${DEBEMAIL:-maintainers@keepsake.example.org}>"
# Packages have the time of the commit that they were built from.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null)} || fail \
    "the time of the packages is not known: this is no git checkout" "set SOURCE_DATE_EPOCH to the time of the release, in seconds"
export SOURCE_DATE_EPOCH
# No locale sorts differently, no time zone shows.
export LC_ALL=C TZ=UTC
umask 022
mkdir -p "$packages" "$staging"

architecture() { dpkg --print-architecture; }

# A folder that is empty.
fresh_folder() {
    rm -rf "$1"
    mkdir -p "$1"
}

# One version of each file is left, because packaging/Containerfile and tests find them by patterns.
remove_other_versions() {
    local file name any='[0-9]+(\.[0-9]+)*(-(alpha|beta|rc)[0-9.]*)?'
    for file in "$packages"/*"$version"*; do
        name=${file##*/}
        find "$packages" -maxdepth 1 -type f -regextype posix-extended \
            -regex ".*/${name%%"$version"*}$any${name#*"$version"}" ! -name "$name" -delete
    done
}

# make_archive FOLDER FILE: a folder and what is in it as .tar.gz.
make_archive() {
    tar -C "$(dirname "$1")" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$(basename "$1")" \
        | gzip -9n >"$2"
    say "${2##*/}: $(stat -c %s "$2") bytes"
}

# make_deb ROOT PACKAGE DEPENDS SECTION SUMMARY   (the description's other lines on standard input)
# It is for this machine's architecture, unless `deb_architecture` says another.
make_deb() {
    local root=$1 package=$2 depends=$3 section=$4 summary=$5 architecture=${deb_architecture:-$(architecture)} documents file
    documents=$root/usr/share/doc/$package
    file=$packages/${package}_$version-1_$architecture.deb
    mkdir -p "$root/DEBIAN" "$documents"
    cp packaging/copyright "$documents/copyright"
    printf 'keepsake (%s-1) unstable; urgency=medium\n\n  * The release %s; CHANGELOG.md in the sources says what changed.\n\n -- %s  %s\n' \
        "$version" "$version" "$maintainer" "$(date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$documents/changelog.Debian.gz"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: $package
Source: keepsake
Version: $version-1
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f1)
Depends: $depends
Section: $section
Priority: optional
Description: $summary
$(sed 's/^$/./; s/^/ /')
CONTROL
    chmod -R u=rwX,go=rX "$root"
    find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    # How xz splits a file depends on how many threads it has.
    dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" "$file" >/dev/null
    say "${file##*/}: $(stat -c %s "$file") bytes"
}

# libraries_of FILE: the packages of the libraries that it was linked with.
libraries_of() {
    local folder file
    file=$(realpath "$1")
    folder=$(mktemp -d)
    mkdir "$folder/debian"
    printf 'Source: keepsake\n\nPackage: keepsake\nArchitecture: any\n' >"$folder/debian/control"
    (cd "$folder" && dpkg-shlibdeps -O "$file" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
    rm -rf "$folder"
}
