#!/bin/sh
# Installs what the scenarios need beyond Python: git itself, a real nginx and a real Apache, and the JVM client (JGit).
# isomorphic-git is fetched by npm into a temporary folder by the test that uses it.
set -eu
packages="git curl gnupg openssh-client nginx-light fcgiwrap apache2 logrotate wrk strace libjgit-java libslf4j-java default-jdk-headless nodejs npm"
missing=""
for package in $packages; do
    case "$package" in
        default-jdk-headless) command -v javac >/dev/null && continue ;;
        nodejs) command -v node >/dev/null && continue ;;
        npm) command -v npm >/dev/null && continue ;;
    esac
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
root=""
[ "$(id -u)" = 0 ] || root="sudo"
$root apt-get update
# shellcheck disable=SC2086 # a list of words on purpose
DEBIAN_FRONTEND=noninteractive $root apt-get install --no-install-recommends -y $missing
