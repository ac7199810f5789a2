#!/usr/bin/env bash
# Installs the servers that the tests and the demo start. Safe to repeat: what is
# there is left alone. Needs Debian or Ubuntu and root or sudo, except for kafka
# when java 17 and Maven are there.
#
#   testbench/install.sh [mariadb] [mysql] [redis] [kafka] [gcc]
#
#   mariadb  MariaDB 10.11+, from the distribution
#   mysql    MySQL 9.x, as an unpacked tree in the cache, run from there (no chroot, no service)
#   redis    Redis, from the distribution
#   kafka    Apache Kafka's jars into the cache, by Maven, with checksums
#   gcc      make, and a C compiler, which Go's race detector needs
#
# TANDEM_CACHE          the cache; default: ${XDG_CACHE_HOME:-~/.cache}/tandem
# TANDEM_MYSQL_MIRROR   archive to take MySQL from; default: the one apt uses
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TANDEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem}
kafka_version=4.1.0
apt_updated=
work= # a temporary directory while there is one
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    die "'$*' needs root: run as root or install sudo"
  fi
}

need_debian() {
  has apt-get || die "this system has no apt-get. Install $1 by hand and put it on PATH"
}

# apt_install PACKAGE... installs packages and starts no service of theirs.
apt_install() {
  need_debian "$*"
  if [ -z "$apt_updated" ]; then
    say "apt-get update"
    as_root apt-get -qq update
    apt_updated=yes
  fi
  say "apt-get install $*"
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e $policy ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin $policy
  fi
  local ok=yes
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" </dev/null >&2 || ok=
  [ -z "$made" ] || as_root rm -f $policy
  [ -n "$ok" ] || die "apt-get could not install $*; its messages stand above"
}

install_mariadb() {
  if has mariadbd && has mariadb-install-db; then
    say "mariadb: already there"
    return
  fi
  apt_install mariadb-server-core mariadb-client-core
}

install_redis() {
  if has redis-server; then
    say "redis: already there"
    return
  fi
  apt_install redis-server
}

install_gcc() {
  if has gcc && has make; then
    say "gcc: already there"
    return
  fi
  apt_install gcc libc6-dev make
}

# sources prints "URI SUITE" of every package source of apt, in order.
sources() {
  local f
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$f" ] || continue
    sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?//p' "$f" | awk '{print $1, $2}'
  done
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -r "$f" ] || continue
    awk '
      function flush(  i, j, us, ss) {
        if (types ~ /(^| )deb( |$)/ && enabled != "no")
          for (i = split(uris, us, " "); i > 0; i--)
            for (j = split(suites, ss, " "); j > 0; j--) print us[i], ss[j]
        types = uris = suites = enabled = ""; field = ""
      }
      /^#/ { next }
      /^[[:space:]]*$/ { flush(); next }
      /^[[:space:]]/ { value = $0; sub(/^[[:space:]]+/, "", value); add(); next }
      { field = tolower($0); sub(/:.*/, "", field); value = $0; sub(/^[^:]*:[[:space:]]*/, "", value); add() }
      function add() {
        if (field == "types") types = types " " value
        if (field == "uris") uris = uris " " value
        if (field == "suites") suites = suites " " value
        if (field == "enabled") enabled = tolower(value)
      }
      END { flush() }' "$f"
  done
}

# mirror prints the archive that apt takes this release from.
mirror() {
  local release=$1 uri suite
  if [ -n "${TANDEM_MYSQL_MIRROR:-}" ]; then
    printf '%s\n' "$TANDEM_MYSQL_MIRROR"
    return
  fi
  while read -r uri suite; do
    case "$uri" in
      http://* | https://* | file:/*)
        case "$suite" in
          "$release" | stable | testing | sid | unstable) printf '%s\n' "${uri%/}"; return ;;
        esac ;;
    esac
  done < <(sources)
  die "apt's sources name no archive for $release: set TANDEM_MYSQL_MIRROR to one"
}

# modern_mysqld tells whether PATH has a MySQL of 8.4 or newer. Debian's mysqld
# may be MariaDB.
modern_mysqld() {
  local version
  has mysqld || return 1
  version=$(PATH="$PATH:/usr/sbin" mysqld --no-defaults --version 2>/dev/null) || return 1
  case "$version" in *MariaDB*) return 1 ;; esac
  version=$(sed -nE 's/.*Ver ([0-9]+)\.([0-9]+)\..*/\1 \2/p' <<<"$version")
  [ -n "$version" ] || return 1
  # shellcheck disable=SC2086
  set -- $version
  [ "$1" -gt 8 ] || { [ "$1" -eq 8 ] && [ "$2" -ge 4 ]; }
}

install_mysql() {
  local tree=$cache/mysql-sid id release suite components script from
  if [ -x "$tree/usr/sbin/mysqld" ]; then
    say "mysql: already there, $tree"
    return
  fi
  if modern_mysqld; then
    say "mysql: already there, $(PATH="$PATH:/usr/sbin" command -v mysqld)"
    return
  fi
  need_debian "MySQL 8.4 or newer"
  id=$(. /etc/os-release && echo "$ID")
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
  has debootstrap || apt_install debootstrap
  case "$id" in
    debian) suite=sid components=main script=sid ;;
    ubuntu) suite=resolute components=main,universe script=gutsy ;; # 26.04, with MySQL 8.4
    *) die "MySQL is taken from Debian or Ubuntu, this is $id: put mysqld 8.4 or newer on PATH" ;;
  esac
  from=$(mirror "$release")
  mkdir -p "$cache"
  as_root rm -rf "$tree.new"
  say "mysql: unpacking $suite with mysql-server-core into $tree (about 600 MB, a minute or two)"
  local log=$cache/mysql-install.log
  if ! as_root debootstrap --variant=minbase --components="$components" --include=mysql-server-core \
    "$suite" "$tree.new" "$from" "/usr/share/debootstrap/scripts/$script" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "debootstrap failed, its whole log is $log"
  fi
  as_root rm -rf "$tree.new/var/cache/apt" "$tree.new/var/lib/apt/lists" "$tree.new/usr/share/doc"
  [ -x "$tree.new/usr/sbin/mysqld" ] || die "$suite has no mysqld where it is expected, see $log"
  as_root mv "$tree.new" "$tree"
  say "mysql: done"
}

java_17() {
  local version
  has java || return 1
  version=$(java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p')
  [ "${version:-0}" -ge 17 ]
}

install_kafka() {
  local dir=$cache/kafka-$kafka_version sums=$here/kafka-$kafka_version.sha512
  java_17 || apt_install default-jre-headless
  java_17 || die "kafka: java here is older than 17: put a newer one on PATH"
  if [ -d "$dir" ] && (cd "$dir" && sha512sum --status -c "$sums"); then
    say "kafka: already there, $dir"
    return
  fi
  has mvn || apt_install maven
  work=$(mktemp -d)
  sed "s/@VERSION@/$kafka_version/" >"$work/pom.xml" <<'POM'
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>tandem</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>@VERSION@</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
POM
  say "kafka: fetching $kafka_version by Maven into $dir"
  mvn -B -q -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" </dev/null >&2 \
    || die "kafka: Maven failed; its messages stand above"
  (cd "$work/jars" && sha512sum --quiet -c "$sums") || die "kafka: the jars are not those of $sums; nothing was installed"
  local extra
  extra=$(comm -13 <(awk '{print $2}' "$sums" | sort) <(cd "$work/jars" && printf '%s\n' * | sort))
  [ -z "$extra" ] || die "kafka: jars that $sums does not name: $extra; nothing was installed"
  mkdir -p "$cache"
  rm -rf "$dir"
  mv "$work/jars" "$dir"
  say "kafka: done"
}

[ $# -gt 0 ] || set -- mariadb mysql redis
for what; do
  case "$what" in
    mariadb | mysql | redis | kafka | gcc) "install_$what" ;;
    *) die "'$what' is none of mariadb, mysql, redis, kafka, gcc" ;;
  esac
done
