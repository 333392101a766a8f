# shellcheck shell=bash
# What the scripts of this folder share. Read by `source`; does nothing by itself.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=toolchain.lock
source "$root/cross/toolchain.lock"
# Downloaded and unpacked tools: shared by all clones, never cleaned by `cargo clean`.
cache=${HEADWATER_CROSS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/headwater}
# What is built. Apart from target/: another compiler would have all of that rebuilt.
out=${HEADWATER_CROSS_TARGET:-$root/target/cross}
# How long a lock of apt, or of another run of ours, is waited for.
lock_seconds=600

all_targets=(aarch64 armv7 armv6 x86_64)

say() { printf '%s\n' "$*" >&2; }
step() { printf '== %s\n' "$*" >&2; }
# die WHAT FIX: two lines, the second tells what to do.
die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  [ $# -lt 2 ] || printf '%s: %s\n' "${0##*/}" "$2" >&2
  exit 1
}

# Names of a target: what people type, Rust's triple, Debian's architecture, the emulator of its processor.
triple_of() {
  case $1 in
    aarch64) echo aarch64-unknown-linux-musl ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    armv6) echo arm-unknown-linux-musleabihf ;;
    x86_64) echo x86_64-unknown-linux-musl ;;
    *) die "no target is called '$1'" "choose one of: ${all_targets[*]}" ;;
  esac
}
debian_of() {
  case $1 in aarch64) echo arm64 ;; armv7 | armv6) echo armhf ;; x86_64) echo amd64 ;; esac
}
# The command that runs a program of a target here; empty if this machine runs it by itself. qemu-user's ARM1176 is
# the processor of a Pi 1 and Zero: an instruction it has not ends the program.
runner_of() {
  case $1 in
    aarch64) [ "$(uname -m)" = aarch64 ] || echo qemu-aarch64-static ;;
    armv7) echo qemu-arm-static ;;
    armv6) echo qemu-arm-static -cpu arm1176 ;;
    x86_64) [ "$(uname -m)" = x86_64 ] || echo qemu-x86_64-static ;;
  esac
}
# Variable part of cargo's environment names.
upper() { tr 'a-z-' 'A-Z_' <<<"$1"; }
under() { tr - _ <<<"$1"; }

program_of() { echo "$out/$(triple_of "$1")/${2:-edge}/headwater-agent"; }

# One run at a time changes the cache: held until the script ends.
lock_cache() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock -w "$lock_seconds" 9 ||
    die "another run has held $cache/lock for $lock_seconds s" "wait for it, or end it, and try again"
}
unlock_cache() { exec 9>&-; }

# apt as we use it for what is only unpacked: lists, cache and state of our own, so that it needs no root and disturbs
# no other apt. Takes the machine's sources, and arm64 beside its own architecture.
private_apt() {
  local apt=$cache/apt part
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,parts}
  rm -f "$apt"/parts/*
  for part in /etc/apt/apt.conf.d/*; do
    # Hooks that clean the cache would take our downloads away.
    case $part in *clean*) ;; *) ln -s "$part" "$apt/parts/" ;; esac
  done
  cp /var/lib/dpkg/status "$apt/state/status"
  cat >"$apt/apt.conf" <<CONF
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; };
APT::Sandbox::User "root";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Dir::Etc::parts "$apt/parts";
Acquire::Languages "none";
DPkg::Lock::Timeout "$lock_seconds";
CONF
  export APT_CONFIG=$apt/apt.conf
}

# Lists no older than a day.
fresh_lists() {
  private_apt
  [ -z "$(find "$cache/apt/updated" -mmin -1440 2>/dev/null)" ] || return 0
  step "package lists (into $cache/apt)"
  apt-get update -q >"$cache/apt/update.log" 2>&1 ||
    die "apt-get update failed: $(tail -1 "$cache/apt/update.log")" \
      "see $cache/apt/update.log; the sources in /etc/apt must be reachable"
  touch "$cache/apt/updated"
}

# unpack FOLDER PACKAGE[=VERSION]...: into FOLDER, without installing.
unpack() {
  local folder=$1 debs deb
  shift
  debs=$(mktemp -d "$cache/debs.XXXXXX")
  (cd "$debs" && apt-get download -q "$@" >"$debs/log" 2>&1) || {
    tail -3 "$debs/log" >&2
    die "failed to download $*" "delete $cache/apt/updated, so that lists are made anew, and try again"
  }
  mkdir -p "$folder"
  for deb in "$debs"/*.deb; do
    dpkg -x "$deb" "$folder"
    rm "$deb"
  done
  rm -r "$debs"
}

# need_tools COMMAND=PACKAGE...: installs what is missing, for programs that only work installed.
need_tools() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || [ -x "/usr/sbin/${pair%%=*}" ] || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] ||
    die "this needs ${missing[*]}" "install: sudo apt-get install --no-install-recommends ${missing[*]}"
  step "installing ${missing[*]}"
  mkdir -p "$cache/apt-install/archives/partial"
  unset APT_CONFIG
  apt-get -o DPkg::Lock::Timeout=$lock_seconds update -q >"$cache/install.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get -o Dir::Cache="$cache/apt-install" -o DPkg::Lock::Timeout=$lock_seconds \
      install -q -y --no-install-recommends "${missing[@]}" >>"$cache/install.log" 2>&1 ||
    die "failed to install ${missing[*]}: $(tail -1 "$cache/install.log")" "see $cache/install.log"
  rm -rf "$cache/apt-install"
}

# Which compiler builds TRIPLE: sets `std`, cargo's flags for the standard library, `crt`, and RUSTC.
choose_compiler() { # TRIPLE
  local chosen=${HEADWATER_TOOLCHAIN:-}
  if [ -z "$chosen" ]; then
    [ -d "$(cd "$root" && rustc --print sysroot)/lib/rustlib/$1/lib" ] && chosen=rustup || chosen=unpacked
  fi
  std=() crt=
  case $chosen in
    rustup) HEADWATER_TOOLCHAIN=rustup "$root/cross/toolchain" && sysroot=$(cd "$root" && rustc --print sysroot) ;;
    unpacked)
      "$root/cross/toolchain"
      export RUSTC_BOOTSTRAP=1 RUSTC RUSTDOC
      std=(-Zbuild-std=std,panic_unwind)
      # Debian's compiler ships no musl of its own; zig does.
      crt='-C link-self-contained=no '
      ;;
    *) die "HEADWATER_TOOLCHAIN is '$chosen'" "make it rustup or unpacked, or leave it out" ;;
  esac
  eval "$("$root/cross/toolchain" env)"
  [ "$chosen" = rustup ] && unset RUSTC RUSTDOC || sysroot=$(dirname "$(dirname "$RUSTC")")/root/usr
  [ -x "$ZIG_BIN/cargo-zigbuild" ] || die "there is no cargo-zigbuild in $ZIG_BIN" "delete that folder and try again"
}

# Environment of cargo-zigbuild for TRIPLE, with sources in SOURCE and results in FOLDER. No path of this machine gets into the
# program: it would differ on another.
cross_environment() { # TRIPLE SOURCE FOLDER
  local cargo_home=${CARGO_HOME:-$HOME/.cargo} up low remap maps
  up=$(upper "$1") low=$(under "$1")
  remap="--remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$2=/headwater --remap-path-prefix=$3=/target"
  remap="$remap --remap-path-prefix=$sysroot=/rust"
  maps="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$2=/headwater -ffile-prefix-map=$3=/target"
  export "CARGO_TARGET_${up}_RUSTFLAGS=$crt$remap" "CFLAGS_$low=$maps"
  export CARGO_TARGET_DIR=$3 PATH=$ZIG_BIN:$PATH
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
}
