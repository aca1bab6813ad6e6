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
if [ -n "$missing" ]; then
    root=""
    [ "$(id -u)" = 0 ] || root="sudo"
    $root apt-get update
    # shellcheck disable=SC2086 # a list of words on purpose
    DEBIAN_FRONTEND=noninteractive $root apt-get install --no-install-recommends -y $missing
fi

# Of Debian's prometheus (19 MB) promtool only, beside our own programs: the package would start a server.
programs="${VENV:-.venv}/bin"
if [ -d "$programs" ] && ! [ -x "$programs/promtool" ] && ! command -v promtool >/dev/null; then
    folder="$(mktemp -d)"
    if (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1); then
        dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$folder/promtool"
        chmod 755 "$folder/promtool"
        mv "$folder/promtool" "$programs/promtool"
    else
        echo "promtool can't be had: the tests of the alert rules are skipped" >&2
    fi
    rm -rf "$folder"
fi
