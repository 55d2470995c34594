#!/bin/sh
# Proves kernel TLS in a small guest, because a host's kernel may have none and its modules are not ours to load.
#
#   run.sh [--cached]      --cached fetches and installs nothing: it runs with what was fetched before
#
# Two kernels: Debian 12's (6.1: takes no second key) and a newer one (takes it). Exit 0: proved; 1: failed; 77: something is
# missing that cannot be had here, and what. All that it fetches and makes stays in build/ktls.
set -eu
# Other sizes and kernels, for whoever looks for a fault: KTLS_MEGABYTES, KTLS_KERNELS.
cd "$(dirname "$0")/../.."
build=build/ktls
guest=$build/target/x86_64-unknown-linux-gnu/release/examples/ktls_guest
megabytes=${KTLS_MEGABYTES:-8}
mkdir -p "$build"

skip() { echo "test-ktls: SKIPPED: $1"; exit 77; }

tools() {
    missing=
    command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
    command -v cpio >/dev/null || missing="$missing cpio"
    test -x /bin/busybox || missing="$missing busybox-static"
    echo "$missing"
}

# fetch NAME SOURCE META: unpacks the kernel that a meta-package of a Debian archive names, and its modules.
fetch() {
    test -e "$build/$1/done" && return 0
    dir=$PWD/$build/$1
    rm -rf "$dir"
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $2" >"$dir/apt/sources.list"
    options="-qq -o Dir::Etc::sourcelist=$dir/apt/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$dir/apt/lists
        -o Dir::Cache=$dir/apt/cache -o APT::Sandbox::User="
    # shellcheck disable=SC2086  # options are words
    apt-get $options update || return 1
    # shellcheck disable=SC2086
    image=$(apt-cache $options depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    test -n "$image" || return 1
    version=${image#linux-image-}
    # Newer packages have the image and the modules apart.
    # shellcheck disable=SC2086
    (cd "$dir" && { apt-get $options download "linux-binary-$version" "linux-modules-$version" 2>/dev/null ||
        apt-get $options download "$image"; }) || return 1
    for package in "$dir"/*.deb; do dpkg -x "$package" "$dir/root"; done
    rm -rf "$dir"/*.deb "$dir/apt"
    touch "$dir/done"
}

# prepare NAME KIND: the initial file system of one kernel.
prepare() {
    dir=$build/$1
    tree=$dir/tree
    rm -rf "$tree"
    mkdir -p "$tree/bin" "$tree/modules" "$tree/proc" "$tree/tmp" "$tree/dev" "$tree/etc"
    cp /bin/busybox "$tree/bin/busybox"
    cp "$guest" "$tree/ktls_guest"
    # A router looks its feed's name up.
    echo "127.0.0.1 localhost" >"$tree/etc/hosts"
    echo "hosts: files" >"$tree/etc/nsswitch.conf"
    cp tests/ktls/init "$tree/init"
    chmod +x "$tree/init"
    echo "$megabytes" >"$tree/megabytes"
    echo "$2" >"$tree/kind"
    # The kernel asks for ciphers by name when a key is set, so no module depends on them: they are named here, in order.
    : >"$tree/modules/order"
    for name in gf128mul libpoly1305 libchacha chacha chacha_generic poly1305_generic ghash-generic gcm ctr \
        chacha20poly1305 tls; do
        file=$(find "$dir/root" \( -name "$name.ko" -o -name "$name.ko.xz" \) | head -1)
        test -n "$file" || continue
        case $file in
        *.xz) xz -dc "$file" >"$tree/modules/$name.ko" ;;
        *) cp "$file" "$tree/modules/$name.ko" ;;
        esac
        echo "$name.ko" >>"$tree/modules/order"
    done
    test -s "$tree/modules/tls.ko" || return 1
    (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd.gz"
}

# boot NAME KIND: runs the guest and judges what it said.
boot() {
    dir=$build/$1
    echo "== $1"
    timeout 900 qemu-system-x86_64 -accel tcg -cpu max -m 512 -smp 1 -display none -monitor none -serial stdio -no-reboot \
        -nic none -kernel "$(find "$dir/root" -name 'vmlinuz*' -type f | head -1)" -initrd "$dir/initrd.gz" \
        -append "console=ttyS0 panic=-1 quiet" </dev/null >"$dir/console" 2>&1 || true
    tr -d '\r' <"$dir/console" | sed -n '/^guest:/,$p'
    for line in "PASS fallback" "PASS $2"; do
        grep -q "^$line" "$dir/console" || { echo "test-ktls: FAILED: no \"$line\" in $dir/console"; return 1; }
    done
    for counter in TlsTxSw TlsRxSw; do
        tr -d '\r' <"$dir/console" | awk -v name=$counter '$1 == name && $2 > 0 { found = 1 } END { exit !found }' ||
            { echo "test-ktls: FAILED: $counter is 0: the kernel did nothing"; return 1; }
    done
}

[ "$(uname -m)" = x86_64 ] || skip "the guest is x86_64"
if [ "${1:-}" = --cached ]; then
    test -z "$(tools)" || skip "without$(tools): run make test-ktls, which installs them"
    test -e "$build/old/done" || skip "nothing was fetched yet: run make test-ktls"
else
    if [ -n "$(tools)" ]; then
        command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || skip "needs$(tools), and only root can install them"
        # shellcheck disable=SC2046  # words
        apt-get -qq update && apt-get install -qq -y --no-install-recommends $(tools) || skip "$(tools) cannot be installed"
    fi
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "needs apt-get and dpkg for the guest's kernel"
    fetch old "http://deb.debian.org/debian bookworm main" || skip "Debian 12's cloud kernel cannot be fetched"
    fetch new "http://deb.debian.org/debian trixie-backports main" || echo "test-ktls: no newer kernel: renewal of keys is not proved"
fi
RUSTFLAGS='-C target-feature=+crt-static' cargo build -q --release -p tickplant-core --example ktls_guest \
    --target x86_64-unknown-linux-gnu --target-dir "$build/target"
for kernel in ${KTLS_KERNELS:-old new}; do
    test -e "$build/$kernel/done" || continue
    prepare $kernel $kernel || { echo "test-ktls: FAILED: no tls module among the modules of $kernel"; exit 1; }
    boot $kernel $kernel
done
echo "test-ktls: passed"
