#!/bin/sh
# rootfs.sh DIR: the root file system of the image that Dockerfile.distroless names, unpacked from the Debian packages
# that it is made of (glibc and OpenSSL with what they need, CA certificates, time zones, names), from the mirror that
# this system uses. Leaves the system's own apt alone.
set -eu
root=$1 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # apt's, not the shell's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
  | head -n 1)
[ -n "$mirror" ] || { echo "apt knows no Debian mirror" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/sources.list"
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/debs"
: > "$work/status"
cd "$work/debs"
get() {
  apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
    -o Acquire::Languages=none -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any "$@"
}
get update
get download base-files ca-certificates libc6 libssl3t64 libzstd1 netbase tzdata zlib1g
for package in *.deb; do dpkg-deb -x "$package" "$root"; done # base-files, which links /lib to /usr/lib, comes first
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/home/nonroot" "$root/proc" "$root/dev" "$root/var/run/secrets/kubernetes.io/serviceaccount"
printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin \
  nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin > "$root/etc/passwd"
printf '%s\n' root:x:0: nobody:x:65534: nonroot:x:65532: > "$root/etc/group"
