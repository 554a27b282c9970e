# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by the shell scripts: messages, and where things are.  POSIX sh.

top=$(cd "$(dirname "$0")" && while [ ! -e scripts/lib.sh ] && [ "$PWD" != / ]
      do cd ..; done; pwd)
build=$top/build
cache=${XDG_CACHE_HOME:-$HOME/.cache}/perennial
prog=$(basename "$0")

die()
{
    echo "$prog: error: $*" >&2
    exit 1
}

# step WORD TEXT: one line for each thing that takes time.
step()
{
    printf '  %-8s %s\n' "$1" "$2"
}

# data FILE: a data file without its comments and empty lines.
data()
{
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$1"
}

# need_space DIR MIB: stop before filling a disk half way through.
need_space()
{
    at=$1
    while [ ! -d "$at" ]; do at=$(dirname "$at"); done
    have=$(df -Pm "$at" | awk 'NR == 2 { print $4 }')
    [ "$have" -ge "$2" ] ||
        die "not enough disk space for $1: $2 MiB needed, $have MiB available"
}

# suffix LINE: what stands behind the name of a product for that kernel line.
suffix()
{
    [ "$1" = 6.12 ] || echo "-$1"
}

# deb13_release: what trixie's kernels of the source that was fetched are called,
# without their flavour.  From the second upload of an upstream version on that is
# more than the version.
deb13_release()
{
    read -r _ version _ <"$build/inputs/linux-deb13"
    release=$(apt-cache -c "$cache/apt/apt.conf" show "linux-image-amd64=$version" \
              2>/dev/null | sed -n 's/^Depends: linux-image-\([^ ]*\)-amd64 .*/\1/p' |
              head -n 1)
    [ -n "$release" ] || die "no kernel of trixie is of linux-source-6.12 $version" \
        "any more: ./configure fetches the source anew"
    echo "$release"
}

# tree_line TREE: the upstream line of a tree of scripts/series.py: that of
# patches/PROJECT-LINE.  A tree without a line in its name is the default one.
tree_line()
{
    case $1 in
    qemu) echo 10.0 ;;
    linux|linux-deb13) echo 6.12 ;;
    libvirt) echo 11.3 ;;
    *) echo "${1#*-}" ;;
    esac
}

# lines PROJECT: those that there are patches for, the default first.
lines()
{
    default=$(tree_line "$1")
    echo "$default"
    (cd "$top/patches" && ls -d "$1"-*) | sed "s/^$1-//" | grep -Fxv "$default" |
        sort -V
}

# trees: all of scripts/series.py.
trees()
{
    for project in qemu linux libvirt
    do
        lines $project | sed "1s/.*/$project/; 2,\$s/^/$project-/"
    done
}

# accepted LINE...: for an error.
accepted()
{
    echo "$*" | sed 's/ /, /g'
}
